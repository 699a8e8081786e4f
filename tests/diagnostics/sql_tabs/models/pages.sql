SELECT
	cookie,
		pge
FROM shop.visits
