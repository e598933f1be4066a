"""What a checkpoint is: the network, bits and width that it was trained with.

`training.json`, which a training writes beside its checkpoint, names the network and its bits. The
width is read from the shapes of the weights. A checkpoint without that file, such as the authors',
is taken to be what the caller says.
"""

import os
from typing import Dict, Optional

import numpy as np

from empir.errors import CheckpointError, ResumeError
from empir.nn import Architecture
from empir.records import runs

RECORD = "training.json"

#: Largest absolute value of a trained weight, moving statistics aside. Those of trained networks
#: are below 100; a thousand times the largest of float16 overflows in every layer after it.
LARGEST_WEIGHT = 1e6


def training_record(folder: str) -> Optional[dict]:
    """The content of training.json in a folder; None if there is no such file.

    Raises:
      CheckpointError: if it is damaged, or not what a training of this project writes.
    """
    path = os.path.join(folder, RECORD)
    if not os.path.lexists(path):
        return None
    advice = "fetch it again, or remove it to take the weights beside it as what you say they are"
    try:
        record = runs.read_json(path)
    except ResumeError as error:
        raise CheckpointError("%s: %s" % (str(error).rpartition(":")[0], advice))
    kinds = (("network", str), ("precisions", list), ("sha256", str))
    lacking = [key for key, kind in kinds if not isinstance(record.get(key), kind)]
    if lacking:
        raise CheckpointError("%s has no valid %s: %s" % (path, ", ".join(lacking), advice))
    return record


def bits(precisions) -> str:
    """Precisions, or their texts, as a flag would say them: "w2a4", or "w2a4/w2a2/fp"."""
    texts = [str(precision) for precision in precisions]
    return texts[0] if len(set(texts)) == 1 else "/".join(texts)


def check_record(folder: str, network: Architecture, precisions, sha256: Optional[str] = None):
    """Refuse a checkpoint whose training.json says that it is something else.

    Args:
      folder: of the checkpoint.
      network, precisions: what it is asked for as.
      sha256: digest of its weights; None leaves it unchecked.

    Raises:
      CheckpointError: if training.json is of other weights, another network or other bits.
    """
    record = training_record(folder)
    if record is None:
        return
    path = os.path.join(folder, RECORD)
    if sha256 is not None and record["sha256"] != sha256:
        raise CheckpointError(
            "%s is not of the weights beside it (sha256 %.8s..., theirs is %.8s...): fetch both "
            "again, or remove it to take the weights as what you say they are"
            % (path, record["sha256"], sha256)
        )
    if record["network"] != network.name:
        raise CheckpointError(
            "%s is asked for as a %s, but %s says %s"
            % (folder, network.name, path, record["network"])
        )
    asked, told = bits(precisions), bits(record["precisions"])
    if asked != told:
        raise CheckpointError(
            "%s is asked for as %s, but %s says %s: give it as %s"
            % (folder, asked, path, told, told)
        )


def width(network: Architecture, shapes: Dict[str, tuple]) -> Optional[int]:
    """`nb_filters` of a network, from the shapes of its weights; None if they are not its.

    Args:
      network: its architecture.
      shapes: released name -> shape.
    """
    for names in map(network.names, network.families):
        shape = shapes.get(next(iter(names.values())))
        if shape and set(shapes) == set(names.values()):
            filters, rest = divmod(shape[-1], network.first_filters)
            return filters if filters > 0 and not rest else None
    return None


def with_width(network: Architecture, arrays: Dict[str, np.ndarray], options: dict) -> dict:
    """Arguments of `network.build` with the width of weights, unless they name a width already."""
    found = width(network, {name: array.shape for name, array in arrays.items()})
    if "nb_filters" in options or found in (None, network.nb_filters):
        return options
    return dict(options, nb_filters=found)


def check_weights(network: Architecture, kind: str, arrays: Dict[str, np.ndarray], path):
    """Refuse weights that no training ends with.

    Args:
      network: what the weights are of.
      kind: "fp" or "lp", see `models.family`.
      arrays: released name -> finite float32 array.
      path: where they came from, for errors.

    Raises:
      CheckpointError: if a kernel is all zero, a weight is huge, or a variance is negative.
    """
    for own, released in network.names(kind).items():
        array = arrays[released]
        problem = None
        if own.endswith("/kernel") and not array.any():
            problem = "is zero everywhere"
        elif own.endswith("/moving_variance") and (array < 0).any():
            problem = "is a variance and negative"
        elif "/moving_" not in own and np.abs(array).max() > LARGEST_WEIGHT:
            problem = "holds values up to %.3g" % np.abs(array).max()
        if problem:
            raise CheckpointError(
                "checkpoint %s is of no trained network: %s %s" % (path, released, problem)
            )
