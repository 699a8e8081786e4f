SELECT cookie, rank() AS place FROM shop.visits
