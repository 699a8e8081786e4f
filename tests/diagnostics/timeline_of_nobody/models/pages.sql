SELECT person_id, count(*) AS rows FROM person GROUP BY person_id
