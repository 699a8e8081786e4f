SELECT id FROM shop.visits
