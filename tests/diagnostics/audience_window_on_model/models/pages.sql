SELECT cookie AS person_id, page FROM shop.visits
