CREATE TABLE pages AS
SELECT page FROM shop.visits
