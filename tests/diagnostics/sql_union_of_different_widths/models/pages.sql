SELECT email FROM shop.visits
UNION ALL
SELECT email, name FROM shop.people
