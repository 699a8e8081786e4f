SELECT page, max(at) AS last_at
FROM shop.visits
