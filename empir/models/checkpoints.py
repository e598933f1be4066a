"""Checkpoints in the authors' released format: find, read, check, assign, save, verify.

Files and names are those of `empir.models.checkpoint_files`, whose functions are here too. Matching
is by name and shape, never by position. What a checkpoint says of itself is
`empir.models.identity`'s.
"""

import glob
import json
import logging
import os
from typing import Dict

import numpy as np

from empir.errors import CheckpointError
from empir.models import identity
from empir.models.checkpoint_files import digest, find_prefix, has_checkpoint, read, save
from empir.nn import Architecture, architectures, family, weights
from empir.published import MANIFEST
from empir.records import clone
from empir.records.runs import file_digest, write_json
from empir.runtime import ROOT

__all__ = ["digest", "find_prefix", "has_checkpoint", "read", "save"]  # of the files
__all__ += ["assign", "compare", "read_initial", "read_member", "released_arrays"]
__all__ += ["describe", "manifest", "update_manifest"]

log = logging.getLogger(__name__)

FAMILIES = {"fp": "full-precision", "lp": "low-precision"}


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
    identity.check_record(folder, network, precisions, digest(arrays))
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
    record = identity.training_record(folder) or {}
    told, asked = identity.bits(record.get("precisions", [])), identity.bits(precisions)
    if record and told != asked:
        log.info("%s was trained as %s and is trained on as %s", path, told, asked)
    arrays = read(path)
    identity.check_record(folder, network, record.get("precisions", precisions), digest(arrays))
    return arrays


def compare(arrays: Dict[str, np.ndarray], expected: Dict[str, tuple]):
    """Differences between a checkpoint's names and shapes and the expected ones, as short texts."""
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    return (
        ["missing %s %s" % (n, _shape(s)) for n, s in expected.items() if n not in found]
        + ["not expected %s %s" % (n, _shape(s)) for n, s in found.items() if n not in expected]
        + [
            "%s is %s, expected %s" % (n, _shape(found[n]), _shape(s))
            for n, s in expected.items()
            if n in found and found[n] != tuple(s)
        ]
    )


def _shape(shape):
    return "(" + ", ".join(map(str, shape)) + ")"


def assign(
    arrays: Dict[str, np.ndarray], network: Architecture, precisions, model, session, path
) -> str:
    """Assign weights under their released names to a model of that architecture and precision.

    Args:
      arrays: released variable name -> float32 array.
      network: the model's architecture.
      precisions: the model's precision per quantized layer; decides between the released names
        "fp_..." and "lp_...".
      model: a model that `network.build` returned.
      session: the session in which the variables get their values.
      path: where the weights came from, for errors.

    Returns:
      The weights' `digest`.

    Raises:
      CheckpointError: if their names or shapes are not this network's, and then all differences
        are listed, or if no training ends with them (`identity.check_weights`).
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
    identity.check_weights(network, family(precisions), arrays, path)
    for own, released in names.items():
        variables[own].load(arrays[released], session)
    return digest(arrays)


def _hint(network, arrays, expected):
    """What to pass instead, where the checkpoint is of another family, precision or width."""
    found = identity.width(network, {name: array.shape for name, array in arrays.items()})
    asked = identity.width(network, expected)
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


def manifest() -> dict:
    """The manifest that comes with the package: our members and the authors' nine.

    Raises:
      CheckpointError: if it is missing or damaged.
    """
    advice = "install the package again, or get it back by git checkout"
    try:
        with open(MANIFEST, encoding="utf8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError("%s cannot be read (%s): %s" % (MANIFEST, reason, advice))
    members = content.get("members") if isinstance(content, dict) else None
    if not isinstance(members, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get(key), str)
        for entry in members
        for key in ("path", "sha256")
    ):
        raise CheckpointError("%s is damaged (no list of members): %s" % (MANIFEST, advice))
    return content


def describe(path: str) -> str:
    """One line on what a checkpoint holds: architecture, bits, width, digest, whether it is known.

    Raises:
      CheckpointError: if it cannot be read, is of no known network, or contradicts the manifest or
        the training.json beside it.
    """
    arrays = read(path)
    sha256, folder = digest(arrays), os.path.dirname(find_prefix(path))
    network, kind = _recognised(path, arrays)
    record = identity.training_record(folder)
    told = record["precisions"] if record else ["fp" if kind == "fp" else "bits not known"]
    identity.check_record(folder, network, told, sha256)
    identity.check_weights(network, kind, arrays, path)
    width = identity.width(network, {name: array.shape for name, array in arrays.items()})
    return "%s: %s %s, %s, %s filters, %d weights, sha256 %s, %s" % (
        path,
        FAMILIES[kind],
        network.name,
        identity.bits(told),
        width,
        sum(array.size for array in arrays.values()),
        sha256,
        _listed(folder, sha256),
    )


def _recognised(path, arrays):
    """(architecture, family) that weights are of, by their names."""
    for network in architectures().values():
        for kind in network.families:
            if set(network.names(kind).values()) == set(arrays):
                return network, kind
    raise CheckpointError(
        "%s is of no network that this project knows; its variables: %s"
        % (path, ", ".join("%s %s" % (n, _shape(a.shape)) for n, a in arrays.items()))
    )


def _listed(folder, sha256):
    """Where the manifest lists weights; `CheckpointError` if it lists others for that folder."""
    entries = manifest()["members"] if os.path.lexists(MANIFEST) else []
    for entry in entries:
        here = os.path.realpath(os.path.join(ROOT, entry["path"])) == os.path.realpath(folder)
        if here and entry["sha256"] != sha256:
            raise CheckpointError(
                "%s has sha256 %s, but %s says %s: fetch both again"
                % (folder, sha256, MANIFEST, entry["sha256"])
            )
    known = [entry["path"] for entry in entries if entry["sha256"] == sha256]
    return "%s of empir/published/manifest.json" % known[0] if known else _NOT_LISTED


_NOT_LISTED = "not one of empir/published/manifest.json"


def update_manifest():
    """Write the members below checkpoints/, as their training.json say, to the manifest.

    Raises:
      EmpirError: if the package is not run from a clone, or weights are not those of training.json.
    """
    clone.require("empir checkpoints manifest")
    entries = []
    pattern = os.path.join(ROOT, "checkpoints", "**", identity.RECORD)
    for path in sorted(glob.glob(pattern, recursive=True)):
        folder = os.path.dirname(path)
        training, arrays = identity.training_record(folder), read(folder)
        network, _ = _recognised(folder, arrays)
        sha256 = digest(arrays)
        identity.check_record(folder, network, training["precisions"], sha256)
        lacking = [k for k in ("clean_accuracy", "seed", "command") if k not in training]
        if lacking:
            raise CheckpointError("%s has no %s" % (path, ", ".join(lacking)))
        entries.append(
            {
                "path": os.path.relpath(folder, ROOT),
                "architecture": training["network"],
                "precision": training["precisions"][0],
                "sha256": sha256,
                "clean_accuracy": training["clean_accuracy"],
                "seed": training["seed"],
                "objective": training.get("objective", {"name": "cross-entropy"})["name"],
                "command": training["command"],
                "files": {name: file_digest(os.path.join(folder, name)) for name in _files(folder)},
            }
        )
    content = dict(manifest(), members=entries)
    write_json(MANIFEST, content)


def _files(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("model."))
