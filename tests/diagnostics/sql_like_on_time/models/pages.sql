SELECT cookie FROM shop.visits WHERE at LIKE '2026%'
