select {{ cents('amount') }} as cents from shop.visits
