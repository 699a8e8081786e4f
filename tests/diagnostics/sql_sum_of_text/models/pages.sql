SELECT page, sum(cookie) AS n
FROM shop.visits
GROUP BY page
