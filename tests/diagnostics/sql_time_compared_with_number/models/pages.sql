SELECT cookie FROM shop.visits WHERE at > 20260101
