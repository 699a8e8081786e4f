SELECT page,
       cokie
FROM shop.visits
