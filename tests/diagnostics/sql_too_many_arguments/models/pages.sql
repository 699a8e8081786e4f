SELECT cookie,
       upper(page, email) AS page
FROM shop.visits
