SELECT page FROM shop.visits ORDER BY 2
