SELECT p FROM f_loop
