"""Training of one member: one loop, checkpointed each epoch, exactly resumable."""

from empir.training.graph import Settings
from empir.training.loop import train
from empir.training.objectives import Objective

__all__ = ["Objective", "Settings", "train"]
