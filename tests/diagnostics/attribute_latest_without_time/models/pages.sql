SELECT cookie, page, cookie AS person_id FROM shop.visits
