-- For a reminder: up to three physicians of the specialty that the patient searched last, near by, with room
-- for new patients, and not one the patient has been to or is going to.
WITH wanted AS (
    SELECT
        patient_id,
        searched_specialty AS specialty,
        substr(postal_code, 1, 3) AS area           -- the first three digits of a postal code are one region
    FROM patient_profile
    WHERE searched_specialty IS NOT NULL AND postal_code IS NOT NULL
),

seen AS (
    SELECT DISTINCT
        i.patient_id,
        a.provider_id
    FROM ehr.appointments AS a
    INNER JOIN patient AS i ON i.identifier_type = 'mrn' AND i.identifier = a.mrn
    WHERE a.status IN ('completed', 'scheduled')
),

ranked AS (
    SELECT
        w.patient_id,
        p.provider_id,
        p.name AS provider_name,
        p.specialty,
        p.postal_code,
        s.completed,
        row_number() OVER (PARTITION BY w.patient_id ORDER BY s.completed DESC, p.provider_id) AS place
    FROM wanted AS w
    INNER JOIN ehr.providers AS p ON p.specialty = w.specialty AND substr(p.postal_code, 1, 3) = w.area
    INNER JOIN provider_stats AS s ON s.provider_id = p.provider_id
    LEFT JOIN seen AS v ON v.patient_id = w.patient_id AND v.provider_id = p.provider_id
    WHERE p.accepts_new AND v.provider_id IS NULL
)

SELECT patient_id, place, provider_id, provider_name, specialty, postal_code, completed
FROM ranked
WHERE place <= 3
