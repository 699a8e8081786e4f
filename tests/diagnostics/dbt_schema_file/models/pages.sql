select page from shop.visits
