SELECT count(* AS n
FROM shop.visits
