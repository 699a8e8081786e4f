SELECT cookie, at - at AS nothing FROM shop.visits
