SELECT prod.shop.visits.at.page FROM shop.visits
