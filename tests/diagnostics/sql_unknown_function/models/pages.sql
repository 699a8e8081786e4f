SELECT uper(page) AS page FROM shop.visits
