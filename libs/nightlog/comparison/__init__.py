"""Compare logs with those of a good run, line by line."""
