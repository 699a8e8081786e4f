SELECT cookie FROM shop.visits WHERE at > as_of() - interval '3 fortnights'
