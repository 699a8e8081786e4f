SELECT id AS staff_id, name FROM shop.people
