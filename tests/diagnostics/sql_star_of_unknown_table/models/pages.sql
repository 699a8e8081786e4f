SELECT p.*
FROM shop.visits v
