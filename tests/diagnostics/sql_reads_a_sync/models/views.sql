SELECT page, count(*) AS views FROM shop.visits GROUP BY page
