"""Tests, in the folders of what they test; `tests.support` holds what they share."""

import os

# Several processes of tests share the processors. TensorFlow reads this when it is loaded.
os.environ["OMP_NUM_THREADS"] = "1"
