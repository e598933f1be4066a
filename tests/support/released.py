"""Random weights of narrow networks under their released names, for tests of files and scripts."""

import json
import os

import numpy as np

from empir.models import checkpoints

WIDTH = 4  # filters of the first convolution: small files

ALEXNET_NAMES = (
    ("conv1_init/k", "conv1_init/b", "conv2_init/k", "conv3_init/k", "conv4_init/k")
    + ("conv5_init/k", "ip1init/W", "ip1init/b", "ip2init/W", "logits_init/W", "logits_init/b")
    + tuple(
        "_batchNorm%d/batch_normalization/%s" % (number, name)
        for number in range(1, 7)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
)
#: docs/original.md, Checkpoint variables: architecture and kind -> names.
NAMES = {
    "MNISTconv": {
        "fp": ("fp_conv1_init/k", "fp_conv2_init/k", "fp_conv3_init/k", "fp_logits_init/W"),
        "lp": ("lp_conv1_init/k", "lp_conv2_bin_init/k", "lp_conv3_bin_init/k", "lp_logits_init/W"),
    },
    "MNISTconvRand": {
        "fp": ("fp_randconv1_init/k", "fp_randconv2_init/k", "fp_randconv3_init/k")
        + ("fp_randsrelu3_fp_init/activation_scalar", "fp_randlogits_init/W"),
    },
    "CIFARconv": {
        kind: tuple(
            "%s_%s" % (kind, name)
            for name in ("conv1_init/k", "conv2_init/k", "conv3_init/k", "ip1init/W")
            + ("logits_init/W",)
        )
        for kind in ("fp", "lp")
    },
    "AlexNet": {
        kind: tuple("%s_%s" % (kind, name) for name in ALEXNET_NAMES) for kind in ("fp", "lp")
    },
}
#: Architecture -> shapes at width w, in the order of the names.
SHAPES = {
    "MNISTconv": lambda w: (
        (8, 8, 1, w),
        (6, 6, w, 2 * w),
        (5, 5, 2 * w, 2 * w),
        (2 * w, 10),
    ),
    "MNISTconvRand": lambda w: (
        (8, 8, 1, w),
        (6, 6, w, 2 * w),
        (5, 5, 2 * w, 2 * w),
        (),
        (2 * w, 10),
    ),
    "CIFARconv": lambda w: (
        (5, 5, 3, w),
        (5, 5, w, w),
        (5, 5, w, 2 * w),
        (18 * w, 64),
        (64, 10),
    ),
    "AlexNet": lambda w: (
        (12, 12, 3, 3 * w),
        (1, 54, 54, 3 * w),
        (5, 5, 3 * w // 2, 8 * w),
        (3, 3, 8 * w, 12 * w),
        (3, 3, 6 * w, 12 * w),
        (3, 3, 6 * w, 8 * w),
        (288 * w, 4096),
        (4096,),
        (4096, 4096),
        (4096, 1000),
        (1000,),
    )
    + tuple((n,) for n in (8 * w, 12 * w, 12 * w, 8 * w, 4096, 4096) for _ in range(4)),
}

#: Folder, kind and seed of an ensemble's members.
MEMBERS = (("model1", "lp", 1), ("model2", "lp", 2), ("model3", "fp", 3))


def narrow(kind, width=WIDTH, seed=0, network="MNISTconv"):
    """Weights of a narrow network, "fp" or "lp": released name -> float32 array."""
    random = np.random.RandomState(seed)
    return {
        name: _draw(random, name, shape)
        for name, shape in zip(NAMES[network][kind], SHAPES[network](width))
    }


def _draw(random, name, shape):
    draw = np.asarray(random.standard_normal(shape), np.float32)
    return 0.5 + np.abs(draw) if name.endswith("variance") else draw


def save_members(folder, network="MNISTconv", width=WIDTH):
    """Save the checkpoints of `MEMBERS` below a folder."""
    for name, kind, seed in MEMBERS:
        checkpoints.save(os.path.join(folder, name), narrow(kind, width, seed, network))


#: Precisions of a network with other bits in each layer, and how a flag says them.
LAYERS, MIXED = ["w2a4", "w4a2", "fp"], "w2a4/w4a2/fp"


def save_trained(folder, arrays, precisions, **changes):
    """Save weights with a training.json, as a training does; returns the folder."""
    checkpoints.save(folder, arrays)
    record = dict(network="MNISTconv", precisions=precisions, sha256=checkpoints.digest(arrays))
    with open(os.path.join(folder, "training.json"), "w") as file:
        json.dump(dict(record, **changes), file)
    return folder
