SELECT safe_cast(page, 'INT') AS n FROM shop.visits
