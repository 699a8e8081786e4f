SELECT cookie
FROM shop.visits
WHERE at > dateadd(day, -7, at)
