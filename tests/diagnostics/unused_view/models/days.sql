SELECT cookie FROM shop.visits
