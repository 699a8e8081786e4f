SELECT nullif(page) AS page FROM shop.visits
