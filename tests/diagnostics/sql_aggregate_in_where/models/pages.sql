SELECT cookie
FROM shop.visits
WHERE count(*) > 3
GROUP BY cookie
