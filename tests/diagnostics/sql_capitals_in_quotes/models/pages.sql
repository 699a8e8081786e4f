SELECT "Page" FROM shop.visits
