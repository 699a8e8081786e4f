SELECT v.page, p.name
FROM visits v
LEFT JOIN shop.people p ON p.email = v.email
