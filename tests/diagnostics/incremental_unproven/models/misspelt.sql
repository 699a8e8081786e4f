SELECT email, count(*) AS visits FROM shop.visits GROUP BY email
