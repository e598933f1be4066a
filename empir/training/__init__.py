"""Training of one member: one loop, checkpointed each epoch, exactly resumable.

The names of this package are imported when they are first used, as they need TensorFlow: what reads
the folder of a training (`empir.training.training_folder`) needs none.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from empir.training.graph import Settings
    from empir.training.loop import train
    from empir.training.objectives import Objective

__all__ = ["Objective", "Settings", "train"]

_MODULES = {"Objective": "objectives", "Settings": "graph", "train": "loop"}


def __getattr__(name):
    """A name of this package, from the module that defines it (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
