SELECT cookie AS who,
       email AS who
FROM shop.visits
