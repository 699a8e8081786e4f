WITH s AS (SELECT page FROM shop.visits)
SELECT s.page AS x FROM s JOIN a ON a.x = s.page
