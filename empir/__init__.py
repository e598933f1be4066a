"""EMPIR: ensembles of mixed-precision networks, and the attacks that test them.

A TensorFlow 1.15 / Keras 2.2.4 reproduction of Sen, Ravindran and Raghunathan, "EMPIR: Ensembles of
Mixed Precision Deep Networks for Increased Robustness Against Adversarial Attacks", ICLR 2020.

Importing the package starts no session, imports no TensorFlow and prints nothing.
"""

from empir.runtime import VERSION as __version__  # noqa: F401
