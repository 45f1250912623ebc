"""What pages show, a module for each notebook: tables, figures, sentences."""
