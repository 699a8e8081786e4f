SELECT uper(page) AS p FROM shop.visits
