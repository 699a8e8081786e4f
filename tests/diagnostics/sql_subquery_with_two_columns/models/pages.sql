SELECT cookie FROM shop.visits
WHERE email IN (SELECT id, email FROM shop.people)
