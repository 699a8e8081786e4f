SELECT v.page
FROM shop.visits v
JOIN shop.people p ON p.email = v.email
