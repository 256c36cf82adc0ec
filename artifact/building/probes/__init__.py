"""Scripts that run inside the target interpreter: Python 3.8 and later, standard library only."""
