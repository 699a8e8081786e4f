SELECT id, sum(amount) AS total FROM web.tracks GROUP BY id
