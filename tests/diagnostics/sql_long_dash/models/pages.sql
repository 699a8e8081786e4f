SELECT cookie FROM shop.visits — all of them
