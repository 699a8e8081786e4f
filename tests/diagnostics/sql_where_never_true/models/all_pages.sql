SELECT page FROM shop.visits WHERE 1 = 1
