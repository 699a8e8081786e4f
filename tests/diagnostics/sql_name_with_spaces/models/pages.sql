SELECT cookie AS "Device Cookie" FROM shop.visits
