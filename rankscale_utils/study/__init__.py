"""A study: what may be written in its YAML, its grid of runs, every path."""
