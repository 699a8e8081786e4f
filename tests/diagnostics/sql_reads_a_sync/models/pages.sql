SELECT * FROM pages_out
