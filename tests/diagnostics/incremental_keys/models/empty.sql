SELECT cookie AS id, email FROM shop.visits
