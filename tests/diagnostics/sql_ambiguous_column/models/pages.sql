SELECT email, v.page
FROM shop.visits v
JOIN shop.people p ON v.email = p.email
