"""Say what checkpoints hold, and keep the manifest of the shipped ones.

    empir checkpoints verify PATH...   say what each checkpoint holds, or what is wrong with it
    empir checkpoints manifest         write the list of the members in checkpoints/
"""

import glob
import json
import os
from typing import Sequence

from empir import published
from empir.commands import process
from empir.errors import CheckpointError, EmpirError
from empir.models import checkpoints
from empir.nn import architectures
from empir.published import MANIFEST
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
    arrays = checkpoints.read(path)
    sha256, folder = checkpoints.digest(arrays), os.path.dirname(checkpoints.find_prefix(path))
    network, kind = _recognised(path, arrays)
    record = checkpoints.training_record(folder)
    told = record["precisions"] if record else ["fp" if kind == "fp" else "bits not known"]
    checkpoints.check_record(folder, network, told, sha256)
    checkpoints.check_weights(network, kind, arrays, path)
    width = checkpoints.width(network, {name: array.shape for name, array in arrays.items()})
    return "%s: %s %s, %s, %s filters, %d weights, sha256 %s, %s" % (
        path,
        checkpoints.FAMILIES[kind],
        network.name,
        checkpoints.bits(told),
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
        % (
            path,
            ", ".join("%s %s" % (n, checkpoints.shape_text(a.shape)) for n, a in arrays.items()),
        )
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
                "files": {
                    name: runs.file_digest(os.path.join(folder, name)) for name in _files(folder)
                },
            }
        )
    content = dict(manifest(), members=entries)
    runs.write_json(MANIFEST, content)


def _files(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("model."))
