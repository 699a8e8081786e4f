SELECT cookie FROM shop.visits
WHERE at > now() - interval '7 days'
