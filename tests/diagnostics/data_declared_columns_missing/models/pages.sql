SELECT page FROM shop.visits
