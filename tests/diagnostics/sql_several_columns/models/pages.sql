SELECT cokie, pge, amount
FROM shop.visits
