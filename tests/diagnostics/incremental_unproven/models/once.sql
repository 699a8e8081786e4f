SELECT email, count(*) AS visits FROM shop.once GROUP BY email
