-- One row a physician: the interest on the site beside what the record says came of it.
-- It starts from the list of physicians, so that a new one is here from the first day, with zeros.
WITH site AS (
    SELECT
        provider_id,
        count(*) FILTER (WHERE event = 'physician_profile_viewed') AS profile_views,
        count(*) FILTER (WHERE event = 'appointment_scheduled') AS site_bookings
    FROM web.tracks
    WHERE provider_id IS NOT NULL
    GROUP BY provider_id
),

visits AS (
    SELECT
        provider_id,
        count(*) AS appointments,
        count(*) FILTER (WHERE status = 'completed') AS completed,
        count(*) FILTER (WHERE status = 'no_show') AS no_shows
    FROM ehr.appointments
    GROUP BY provider_id
)

SELECT
    p.provider_id,
    p.name,
    p.specialty,
    p.postal_code,
    p.accepts_new,
    coalesce(s.profile_views, 0) AS profile_views,
    coalesce(s.site_bookings, 0) AS site_bookings,
    coalesce(v.appointments, 0) AS appointments,
    coalesce(v.completed, 0) AS completed,
    coalesce(v.no_shows, 0) AS no_shows
FROM ehr.providers AS p
LEFT JOIN site AS s ON s.provider_id = p.provider_id
LEFT JOIN visits AS v ON v.provider_id = p.provider_id
