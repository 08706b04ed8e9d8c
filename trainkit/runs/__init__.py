"""``trainkit runs``: what lies below a folder of runs as one table; thousands of them in under a second."""
