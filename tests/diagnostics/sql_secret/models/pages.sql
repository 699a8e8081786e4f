SELECT secret('KEY') AS k FROM shop.visits
