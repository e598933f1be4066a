"""The format pytorch: a PyTorch network in one file, and the weights and settings that it reads.

    model.py             the file empir/export/pytorch_model.py, as it is
    weights.safetensors  latent weights, and of quantized ones the levels that TensorFlow computes
    config.json          architecture, precisions per layer, decision rule, range of images, digests
    README.md            the model card, and for CIFAR-10 robustbench.json, see `card`
"""

import os
from typing import TYPE_CHECKING, Dict

import numpy as np

from empir import runtime
from empir.errors import EmpirError
from empir.records import runs

if TYPE_CHECKING:
    from empir.export.source import Source, SourceMember

MODEL, WEIGHTS, CONFIG = "model.py", "weights.safetensors", "config.json"
#: What becomes model.py.
MODEL_SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pytorch_model.py")

#: The networks that it has; of each the linear layer that reads images, and how many rows and
#: columns they have there.
FLATTENED = {"MNISTconv": ("logits", 1), "CIFARconv": ("linear1", 3), "AlexNet": ("fc6", 6)}

#: Ends of our weights' names -> ends of PyTorch's.
NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def write(source: "Source", folder: str):
    """Write the files of an ensemble; see the module, and `empir.export.Format`.

    Raises:
      EmpirError: for a network that the file has not, or a temperature.
    """
    import safetensors.numpy

    from empir.export import card

    if source.network.name not in FLATTENED:
        raise EmpirError(
            f"--format=pytorch has the networks {', '.join(FLATTENED)}, not {source.network.name}"
        )
    if source.temperature != 1:
        raise EmpirError(f"--format=pytorch has no temperature={source.temperature:g}, only 1")
    path = os.path.join(folder, WEIGHTS)
    arrays = {
        f"networks.{number}.{name}": array
        for number, member in enumerate(source.members)
        for name, array in parameters(member, source.network.name).items()
    }
    runs.write_atomically(path, safetensors.numpy.save(arrays, {"format": "pt"}))
    runs.write_json(os.path.join(folder, CONFIG), config(source, runs.file_digest(path)))
    card.write(source, folder)
    with open(MODEL_SOURCE, "rb") as file:
        runs.write_atomically(os.path.join(folder, MODEL), file.read())


def parameters(member: "SourceMember", network: str) -> Dict[str, np.ndarray]:
    """A member's weights as PyTorch names and orders them.

    "conv1.weight" are latent weights. "conv1.levels" are those that it computes with where it
    quantizes them, as integers from 0 to 2^bits - 1: level k is 2 k / (2^bits - 1) - 1.
    """
    found = {}
    for own, array in member.latent.items():
        layer, _, name = own.rpartition("/")
        found[name_of(own)] = to_pytorch(network, own, array)
        bits = member.layers[layer].weight_bits if layer in member.layers else None
        if bits is not None and name == "kernel":
            levels = _levels(member.quantized[own], bits)
            found[f"{layer}.levels"] = to_pytorch(network, own, levels)
        if name == "gamma":
            found[f"{layer}.num_batches_tracked"] = np.array(0)
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def _levels(quantized, bits):
    steps = 2**bits - 1
    levels = np.rint((quantized.astype(np.float64) + 1) / 2 * steps)
    return levels.astype(np.uint8 if bits <= 8 else np.int32)


def name_of(own: str) -> str:
    """PyTorch's name of a weight: "conv1.weight" for "conv1/kernel"."""
    layer, _, name = own.rpartition("/")
    return f"{layer}.{NAMES[name]}"


def to_pytorch(network: str, own: str, array: np.ndarray) -> np.ndarray:
    """An array of a network's weight, by our name, with its axes in PyTorch's order.

    Kernels [height, width, in, out] become [out, in, height, width], and of a linear layer
    [in, out] becomes [out, in]. The first linear layer reads images in a row, of which TensorFlow
    has the channels last and PyTorch has them first.
    """
    if array.ndim == 4:
        return array.transpose((3, 2, 0, 1) if own.endswith("/kernel") else (0, 3, 1, 2))
    if array.ndim != 2:
        return array
    side = _side(network, own)
    rows = array.reshape(side, side, -1, array.shape[1])
    return rows.transpose(3, 2, 0, 1).reshape(array.shape[::-1])


def from_pytorch(network: str, own: str, array: np.ndarray) -> np.ndarray:
    """The inverse of `to_pytorch`."""
    if array.ndim == 4:
        return array.transpose((2, 3, 1, 0) if own.endswith("/kernel") else (0, 2, 3, 1))
    if array.ndim != 2:
        return array
    side = _side(network, own)
    rows = array.reshape(array.shape[0], -1, side, side)
    return rows.transpose(2, 3, 1, 0).reshape(array.shape[::-1])


def _side(network, own):
    name, side = FLATTENED[network]
    return side if own == f"{name}/kernel" else 1


def config(source: "Source", weights_sha256: str) -> dict:
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
                "checkpoint": _shown(member.checkpoint),
                "sha256": member.sha256,
                "nb_filters": member.nb_filters,
                "layers": {name: bits._asdict() for name, bits in member.layers.items()},
            }
            for member in source.members
        ],
        "weights_sha256": weights_sha256,
        "made_by": f"empir {runtime.VERSION}",
    }


def _shown(path):
    """A checkpoint's path as others may read it: of an absolute one the last part."""
    return os.path.basename(path) if path and os.path.isabs(path) else path
