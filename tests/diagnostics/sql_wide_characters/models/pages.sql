SELECT 'größe 日本 😀' AS t, pge FROM shop.visits
