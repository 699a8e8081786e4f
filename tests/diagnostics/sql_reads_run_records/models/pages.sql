SELECT number FROM kinfold.runs
