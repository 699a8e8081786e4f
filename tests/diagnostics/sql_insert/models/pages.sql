INSERT INTO shop.visits VALUES ('c3', NULL, 'home', 1, '2026-01-01')
