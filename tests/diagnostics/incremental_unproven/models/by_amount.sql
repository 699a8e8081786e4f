SELECT amount, count(*) AS visits FROM shop.visits GROUP BY amount
