SELECT cookie, count(*) AS n
FROM shop.visits
GROUP BY cookie
HAVING page = 'home'
