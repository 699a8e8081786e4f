SELECT len(page) AS n FROM shop.visits
