SELECT date_trunc(at, 'day') AS day FROM shop.visits
