SELECT page, max(email) AS who, count(DISTINCT cookie) AS cookies FROM shop.visits GROUP BY page
