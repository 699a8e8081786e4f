SELECT cookie FROM shop.visits LIMIT 'ten'
