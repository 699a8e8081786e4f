SELECT page, count(*)
FROM shop.visits
GROUP BY page
