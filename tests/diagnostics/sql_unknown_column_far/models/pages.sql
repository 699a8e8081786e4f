SELECT page, customer_number FROM shop.visits
