SELECT substr(amount, 1, 2) AS x FROM shop.visits
