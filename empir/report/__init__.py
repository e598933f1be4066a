"""Tables from records, for the terminal and the README."""
