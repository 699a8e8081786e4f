SELECT email, CAST(max(as_of() - at) AS TEXT) AS age FROM shop.visits GROUP BY email
