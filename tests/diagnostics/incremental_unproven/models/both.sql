SELECT v.email, o.page, count(*) AS visits FROM shop.visits v JOIN top o2 ON o2.email = v.page LEFT JOIN shop.once o ON o.page = v.page GROUP BY v.email, o.page
