SELECT page FROM shop.visits GROUP BY 1, 2
