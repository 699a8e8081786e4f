SELECT cookie
FORM shop.visits
