SELECT date_trunc('day', at) AS day, count(*) AS visits, count(DISTINCT cookie) AS cookies
FROM shop.visits
GROUP BY 1
ORDER BY 1
