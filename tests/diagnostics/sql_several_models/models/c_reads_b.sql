SELECT pge, nothing FROM b_column
