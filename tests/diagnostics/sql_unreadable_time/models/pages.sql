SELECT cookie
FROM shop.visits
WHERE at >= 'yesterday'
