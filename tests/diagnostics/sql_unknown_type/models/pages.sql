SELECT CAST(cookie AS STRNG) AS c FROM shop.visits
