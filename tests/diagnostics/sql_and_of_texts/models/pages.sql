SELECT cookie FROM shop.visits WHERE page AND cookie
