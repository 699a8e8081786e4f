SELECT pge FROM shop.visits
