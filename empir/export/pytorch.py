"""The format pytorch: a PyTorch network in one file, and the weights and settings that it reads.

    model.py             the file empir/export/pytorch_model.py, as it is
    weights.safetensors  latent weights, and of quantized ones the levels that TensorFlow computes
    config.json          architecture, precisions per layer, decision rule, range of images, digests
"""

import os
from typing import Dict, Tuple

import numpy as np

from empir import runtime
from empir.export.source import Source, SourceMember
from empir.records import runs

WEIGHTS, CONFIG = "weights.safetensors", "config.json"

#: Ends of our weights' names -> ends of PyTorch's, and how the axes are to be ordered, by the
#: number of axes.
PARAMETERS: Dict[str, Tuple[str, Dict[int, Tuple[int, ...]]]] = {
    "kernel": ("weight", {4: (3, 2, 0, 1), 2: (1, 0)}),
    "bias": ("bias", {4: (0, 3, 1, 2), 1: (0,)}),
    "gamma": ("weight", {1: (0,)}),
    "beta": ("bias", {1: (0,)}),
    "moving_mean": ("running_mean", {1: (0,)}),
    "moving_variance": ("running_var", {1: (0,)}),
}


def write(source: Source, folder: str):
    """Write the files of an ensemble; see the module, and `empir.export.Format`."""
    import safetensors.numpy

    path = os.path.join(folder, WEIGHTS)
    arrays: Dict[str, np.ndarray] = {}
    for number, member in enumerate(source.members):
        for name, array in parameters(member).items():
            arrays[f"networks.{number}.{name}"] = array
    runs.write_atomically(path, safetensors.numpy.save(arrays, {"format": "pt"}))
    runs.write_json(os.path.join(folder, CONFIG), config(source, runs.file_digest(path)))


def parameters(member: SourceMember) -> Dict[str, np.ndarray]:
    """A member's weights as PyTorch names them: "conv1.weight", and "conv1.levels" of quantized
    ones, integers from 0 to 2^bits - 1, of which q are the weight 2 q / (2^bits - 1) - 1."""
    found = {}
    for own, array in member.latent.items():
        layer, _, name = own.rpartition("/")
        end, orders = PARAMETERS[name]
        order = orders[array.ndim]
        found[f"{layer}.{end}"] = array.transpose(order)
        bits = member.layers[layer].weight_bits if layer in member.layers else None
        if bits is not None:
            levels = _levels(member.quantized[own], bits)
            found[f"{layer}.levels"] = levels.transpose(order)
    return found


def _levels(quantized, bits):
    steps = 2**bits - 1
    levels = np.rint((quantized.astype(np.float64) + 1) / 2 * steps)
    return levels.astype(np.uint8 if bits <= 8 else np.int32)


def config(source: Source, weights_sha256: str) -> dict:
    """The content of config.json, given the digest of the weights' file."""
    height, width, channels = source.network.input_shape
    return {
        "format": 1,
        "architecture": source.network.name,
        "dataset": source.experiment.dataset,
        "input_shape": [channels, height, width],
        "input_range": list(source.experiment.clip_range),
        "num_classes": source.network.num_classes,
        "combine": source.combine,
        "reference": source.reference,
        "members": [
            {
                "checkpoint": member.checkpoint,
                "sha256": member.sha256,
                "nb_filters": member.nb_filters,
                "layers": {name: bits._asdict() for name, bits in member.layers.items()},
            }
            for member in source.members
        ],
        "weights_sha256": weights_sha256,
        "made_by": f"empir {runtime.VERSION}",
    }
