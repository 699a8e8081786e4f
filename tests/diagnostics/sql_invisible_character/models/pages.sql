SELECT coo​kie FROM shop.visits
