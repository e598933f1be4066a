"""Random weights of narrow networks under their released names, for tests of files and scripts."""

import os

import numpy as np

from empir import checkpoints

WIDTH = 4  # filters of the first convolution: small files

#: FACTS 2.9, MNIST.
NAMES = {
    "fp": ("fp_conv1_init/k", "fp_conv2_init/k", "fp_conv3_init/k", "fp_logits_init/W"),
    "lp": ("lp_conv1_init/k", "lp_conv2_bin_init/k", "lp_conv3_bin_init/k", "lp_logits_init/W"),
}

#: Folder, kind and seed of an ensemble's members.
MEMBERS = (("model1", "lp", 1), ("model2", "lp", 2), ("model3", "fp", 3))


def narrow(kind, width=WIDTH, seed=0):
    """Weights of a narrow MNISTconv, "fp" or "lp": released name -> float32 array."""
    random = np.random.RandomState(seed)
    shapes = (
        (8, 8, 1, width),
        (6, 6, width, 2 * width),
        (5, 5, 2 * width, 2 * width),
        (2 * width, 10),
    )
    return {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in zip(NAMES[kind], shapes)
    }


def save_members(folder):
    """Save the checkpoints of `MEMBERS` below a folder."""
    for name, kind, seed in MEMBERS:
        checkpoints.save(os.path.join(folder, name), narrow(kind, seed=seed))
