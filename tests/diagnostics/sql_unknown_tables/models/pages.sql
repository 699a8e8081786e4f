-- what people look at
SELECT page, count(*) AS views
FROM shop.visit
GROUP BY page
