"""The chunks of an evaluation on the workers of a Dask scheduler."""
