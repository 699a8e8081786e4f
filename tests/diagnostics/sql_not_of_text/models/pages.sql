SELECT cookie FROM shop.visits WHERE NOT page
