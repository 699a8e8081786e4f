SELECT max(sum(amount)) AS x FROM shop.visits
