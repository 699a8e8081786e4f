SELECT cookie, first(page) AS page
FROM shop.visits
GROUP BY cookie
