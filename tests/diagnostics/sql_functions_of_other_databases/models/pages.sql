SELECT iff(amount > 2, 'much', 'little') AS spent FROM shop.visits
