"""Training of one member: one loop, checkpointed each epoch, exactly resumable."""

from empir.training.loop import Settings, train

__all__ = ["Settings", "train"]
