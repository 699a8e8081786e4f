SELECT upper(page) AS place
FROM shop.visits
WHERE place = 'HOME'
