"""The table at which everything meets: its schema, how it is read, values of single queries."""
