SELECT v.page, v.cokie AS who
FROM shop.visits v
