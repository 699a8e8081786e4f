SELECT name FROM peopel
