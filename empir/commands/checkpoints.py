"""Say what checkpoints hold, and keep the manifest of the shipped ones.

    empir checkpoints verify PATH...   say what each checkpoint holds, or what is wrong with it
    empir checkpoints manifest         write the list of the members in checkpoints/
"""

import glob
import os
from typing import Sequence

from empir import published
from empir.commands import process
from empir.errors import CheckpointError, EmpirError
from empir.models import checkpoints
from empir.nn import architectures
from empir.records import runs
from empir.runtime import ROOT


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status, which is 2 if a checkpoint is bad.

    Raises:
      EmpirError: for a command line that is none of the module's docstring.
    """
    if argv == ["manifest"]:
        update_manifest()
        return 0
    if len(argv) < 2 or argv[0] != "verify" or any(word.startswith("-") for word in argv):
        raise EmpirError("usage: empir checkpoints verify PATH... (or: manifest)")
    status = 0
    for path in argv[1:]:
        try:
            print(process.one_line(describe(path)))
        except CheckpointError as error:
            status = process.complain(str(error))
    return status


def describe(path: str) -> str:
    """One line on what a checkpoint holds: architecture, bits, width, digest, whether it is known.

    Raises:
      CheckpointError: if it cannot be read, is of no known network, or contradicts the manifest or
        the training.json beside it.
    """
    arrays = checkpoints.read(path)
    sha256, folder = checkpoints.digest(arrays), os.path.dirname(checkpoints.find_prefix(path))
    network, kind = _recognised(path, arrays)
    record = checkpoints.training_record(folder)
    told = record["precisions"] if record else ["fp" if kind == "fp" else "bits not known"]
    checkpoints.check_record(folder, network, told, sha256)
    checkpoints.check_weights(network, kind, arrays, path)
    width = checkpoints.width(network, {name: array.shape for name, array in arrays.items()})
    count = sum(array.size for array in arrays.values())
    return (
        f"{path}: {checkpoints.FAMILIES[kind]} {network.name}, {checkpoints.bits(told)}, {width} "
        f"filters, {count} weights, sha256 {sha256}, {_listed(folder, sha256)}"
    )


def _recognised(path, arrays):
    """(architecture, family) that weights are of, by their names."""
    for network in architectures().values():
        for kind in network.families:
            if set(network.names(kind).values()) == set(arrays):
                return network, kind
    found = ", ".join(f"{name} {checkpoints.shape_text(a.shape)}" for name, a in arrays.items())
    raise CheckpointError(
        f"{path} is of no network that this project knows; its variables: {found}"
    )


def _listed(folder, sha256):
    """Where the manifest lists weights; `CheckpointError` if it lists others for that folder."""
    entries = published.manifest()["members"] if os.path.lexists(published.MANIFEST) else []
    for entry in entries:
        here = os.path.realpath(os.path.join(ROOT, entry["path"])) == os.path.realpath(folder)
        if here and entry["sha256"] != sha256:
            raise CheckpointError(
                f"{folder} has sha256 {sha256}, but {published.MANIFEST} says {entry['sha256']}: "
                "fetch both again"
            )
    known = [entry["path"] for entry in entries if entry["sha256"] == sha256] + ["not one"]
    return f"{known[0]} of empir/published/manifest.json"


def update_manifest():
    """Write the members below checkpoints/, as their training.json say, to the manifest.

    Raises:
      EmpirError: if the package is not run from a clone, or weights are not those of training.json.
    """
    published.require_clone("empir checkpoints manifest")
    entries = []
    pattern = os.path.join(ROOT, "checkpoints", "**", checkpoints.RECORD)
    for path in sorted(glob.glob(pattern, recursive=True)):
        folder = os.path.dirname(path)
        training, arrays = checkpoints.training_record(folder), checkpoints.read(folder)
        network, _ = _recognised(folder, arrays)
        sha256 = checkpoints.digest(arrays)
        checkpoints.check_record(folder, network, training["precisions"], sha256)
        lacking = [k for k in ("clean_accuracy", "seed", "command") if k not in training]
        if lacking:
            raise CheckpointError(f"{path} has no {', '.join(lacking)}")
        files = sorted(name for name in os.listdir(folder) if name.startswith("model."))
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
                "files": {name: runs.file_digest(os.path.join(folder, name)) for name in files},
            }
        )
    runs.write_json(published.MANIFEST, dict(published.manifest(), members=entries))
