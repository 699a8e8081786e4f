SELECT nosuchfn(page) AS page FROM shop.visits
