SELECT email, count(*) AS visits FROM shop.visits GROUP BY email ORDER BY visits DESC LIMIT 10
