SELECT cookie FROM shop.visits WHERE (page = 'home'
