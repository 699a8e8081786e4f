SELECT t.id, p.url FROM web.tracks AS t INNER JOIN web.pages AS p ON p.id = t.id
