"""The chunks of an evaluation on the workers of a Dask scheduler."""

import os

# Dask's own lines tell of each connection; this package says what is lost. Set before it is loaded.
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
