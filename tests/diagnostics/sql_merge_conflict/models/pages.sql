SELECT cookie
<<<<<<< HEAD
FROM shop.visits
=======
FROM shop.visit
>>>>>>> theirs
