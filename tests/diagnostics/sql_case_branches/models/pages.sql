SELECT CASE WHEN page = 'home' THEN at ELSE 1 END AS x FROM shop.visits
