select * from web.tracks
