SELECT page FROM shop.visits UNION ALL SELECT page FROM shop.again
