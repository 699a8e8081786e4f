SELECT sum() AS n FROM shop.visits
