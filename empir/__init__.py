"""EMPIR: ensembles of mixed-precision networks, and the attacks that test them.

A TensorFlow 1.15 / Keras 2.2.4 reproduction of Sen, Ravindran and Raghunathan, "EMPIR: Ensembles of
Mixed Precision Deep Networks for Increased Robustness Against Adversarial Attacks", ICLR 2020.

Importing the package starts no session, imports no TensorFlow and prints nothing. The functions of
`empir.front` are here: `empir.load_dataset`, `empir.load_ensemble`, `empir.Threat` and
`empir.evaluate`.
"""

import importlib

from empir.runtime import VERSION as __version__  # noqa: F401

#: What can be had from the package itself, and the module that it is imported from at first use.
_FRONT = dict.fromkeys(("load_dataset", "load_ensemble", "Threat", "evaluate"), "empir.front")

__all__ = list(_FRONT)


def __getattr__(name):
    if name not in _FRONT:
        raise AttributeError(f"module 'empir' has no attribute {name!r}")
    return getattr(importlib.import_module(_FRONT[name]), name)


def __dir__():
    return sorted([*globals(), *_FRONT])
