SELECT cookie
FROM shop.visits
WHERE at - 7 > '2026-01-01'
