SELECT id FROM web.tracks
