SELECT email, day FROM web.tracks
