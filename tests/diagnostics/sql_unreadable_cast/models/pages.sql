SELECT cookie, DATE '2026-02-30' AS day FROM shop.visits
