WITH recent AS (
  SELECT cookie, page FROM shop.visits
)
SELECT r.cookie, r.amount
FROM recent r
