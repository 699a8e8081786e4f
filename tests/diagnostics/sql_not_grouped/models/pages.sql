SELECT cookie, page, count(*) AS n
FROM shop.visits
GROUP BY cookie
