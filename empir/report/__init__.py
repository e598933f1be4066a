"""Tables from records, for the terminal, the README and docs/."""
