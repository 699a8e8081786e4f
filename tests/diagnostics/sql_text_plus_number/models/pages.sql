SELECT cookie + 1 AS next FROM shop.visits
