"""Checkpoints before they are networks: what is to be loaded, what it is, and whether it fits.

Files are found, read and written by `empir.models.checkpoint_files`, whose functions are here too.
Weights are matched by name and shape, never by position. `training.json`, which a training writes
beside its checkpoint, names the network and its bits; the width is read from the shapes of the
weights. A checkpoint without that file, such as the authors', is taken to be what the caller says.
"""

import logging
import os
from dataclasses import dataclass
from typing import Dict, Optional, Tuple, Union

import numpy as np

from empir.errors import CheckpointError, EmpirError, ResumeError
from empir.models.checkpoint_files import (  # noqa: F401 - those of the files are here too
    digest,
    find_prefix,
    has_checkpoint,
    read,
    save,
)
from empir.nn import Architecture, family, weights
from empir.nn.precision import Precision, parse_layers
from empir.records import runs

log = logging.getLogger(__name__)

FAMILIES = {"fp": "full-precision", "lp": "low-precision"}

RECORD = "training.json"

#: Largest absolute value of a trained weight, moving statistics aside. Those of trained networks
#: are below 100; a thousand times the largest of float16 overflows in every layer after it.
LARGEST_WEIGHT = 1e6


@dataclass(frozen=True)
class MemberSpec:
    """A member that is to be loaded or trained.

    Attributes:
      precision: of all its quantized layers, or one for each of them.
      path: its checkpoint, or the folder that it is trained into; None keeps nothing of it.
    """

    precision: Union[Precision, Tuple[Precision, ...]]
    path: Optional[str] = None

    @classmethod
    def parse(cls, text: str, flag: str) -> "MemberSpec":
        """The member that a text such as "w2a4:checkpoints/mnist/model1-w2a4" names.

        Args:
          text: PRECISION:CHECKPOINT, the precision as of `precision.parse_layers`.
          flag: which the text is of, for the error.

        Raises:
          EmpirError: if the text is anything else.
        """
        bits, _, path = text.partition(":")
        if not path:
            raise EmpirError(
                f"{flag}: {text!r} is not PRECISION:CHECKPOINT, e.g. "
                "w2a4:checkpoints/mnist/model1-w2a4"
            )
        return cls(parse_layers(bits), path)


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


def read_member(path: str, network: Architecture, precisions) -> Dict[str, np.ndarray]:
    """Read the weights of a network of which architecture and bits are known.

    Args:
      path: directory or prefix.
      network, precisions: what the caller takes it for.

    Raises:
      CheckpointError: see `read`, and if training.json beside the checkpoint contradicts the
        architecture, the bits or the weights.
    """
    arrays = read(path)
    folder = os.path.dirname(find_prefix(path))
    check_record(folder, network, precisions, digest(arrays))
    return arrays


def read_initial(path: str, network: Architecture, precisions) -> Dict[str, np.ndarray]:
    """Read the weights that a training starts from.

    They may have been trained at other bits than those they are trained on with, which is said.

    Args:
      path: directory or prefix.
      network, precisions: of the training.

    Raises:
      CheckpointError: see `read`, and if training.json beside the checkpoint is of other weights
        or of another network.
    """
    folder = os.path.dirname(find_prefix(path))
    record = training_record(folder) or {}
    told, asked = bits(record.get("precisions", [])), bits(precisions)
    if record and told != asked:
        log.info("%s was trained as %s and is trained on as %s", path, told, asked)
    arrays = read(path)
    check_record(folder, network, record.get("precisions", precisions), digest(arrays))
    return arrays


def compare(arrays: Dict[str, np.ndarray], expected: Dict[str, tuple]):
    """Differences between a checkpoint's names and shapes and the expected ones, as short texts."""
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    return (
        ["missing %s %s" % (n, shape_text(s)) for n, s in expected.items() if n not in found]
        + ["not expected %s %s" % (n, shape_text(s)) for n, s in found.items() if n not in expected]
        + [
            "%s is %s, expected %s" % (n, shape_text(found[n]), shape_text(s))
            for n, s in expected.items()
            if n in found and found[n] != tuple(s)
        ]
    )


def shape_text(shape) -> str:
    """A shape as errors write it: "(3, 3, 1, 64)"."""
    return "(" + ", ".join(map(str, shape)) + ")"


def values(arrays: Dict[str, np.ndarray], network: Architecture, precisions, model, path) -> dict:
    """The values of a model's variables, from weights under their released names.

    Args:
      arrays: released variable name -> float32 array.
      network: the model's architecture.
      precisions: the model's precision per quantized layer; decides between the released names
        "fp_..." and "lp_...".
      model: a model that `network.build` returned.
      path: where the weights came from, for errors.

    Returns:
      variable -> array, for `runtime.assign`.

    Raises:
      CheckpointError: if their names or shapes are not this network's, and then all differences
        are listed, or if no training ends with them (`check_weights`).
    """
    names = network.names(family(precisions))
    variables = weights(model)
    expected = {released: tuple(variables[own].shape.as_list()) for own, released in names.items()}
    differences = compare(arrays, expected)
    if differences:
        raise CheckpointError(
            "checkpoint %s is not a %s %s: %s%s"
            % (
                path,
                FAMILIES[family(precisions)],
                network.name,
                "; ".join(differences),
                _hint(network, arrays, expected),
            )
        )
    check_weights(network, family(precisions), arrays, path)
    return {variables[own]: arrays[name] for own, name in names.items()}


def _hint(network, arrays, expected):
    """What to pass instead, where the checkpoint is of another family, precision or width."""
    found = width(network, {name: array.shape for name, array in arrays.items()})
    asked = width(network, expected)
    if set(arrays) == set(expected) and found != asked and None not in (found, asked):
        text = " (its nb_filters is %d, but nb_filters=%d is asked for: leave that out)"
        return text % (found, asked)
    if set(arrays) & set(expected):
        return ""
    random, wanted = (any(n.startswith("fp_rand") for n in names) for names in (arrays, expected))
    if random != wanted:
        return " (it is%s the network of --rand)" % ("" if random else " not")
    families = {name[:3] for name in arrays}
    if families == {"lp_"}:
        return " (a low-precision one's names: give --lowprecision, --wbits and --abits)"
    if families == {"fp_"}:
        return " (a full-precision one's names: give it as --model_path3, or no bits)"
    return ""


def released_arrays(network: Architecture, precisions, model, session) -> Dict[str, np.ndarray]:
    """A model's weights under their released names, ready for `save`."""
    variables = weights(model)
    names = network.names(family(precisions))
    values = session.run({own: variables[own] for own in names})
    return {released: values[own] for own, released in names.items()}
