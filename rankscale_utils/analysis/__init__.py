"""A study's conclusions, a module for each notebook."""
