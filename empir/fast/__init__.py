"""The networks of `empir.nn`, computed faster."""
