SELECT page FROM shop.visits;
SELECT cookie FROM shop.visits;
