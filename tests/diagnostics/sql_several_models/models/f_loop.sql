SELECT p FROM e_loop
