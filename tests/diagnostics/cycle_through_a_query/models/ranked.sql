SELECT person_id, rank() OVER (ORDER BY visits) AS place
FROM person_profile
