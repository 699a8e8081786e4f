SELECT cookie FROM shop.visits WHERE amount > 'ten'
