"""What comes with the package as data files, and what stands beside it in a clone.

- paper.json: the accuracies of the paper's table and its statement on overhead, in percent, and the
  clean accuracies of the authors' released CIFAR-10 members, each with its source.
- manifest.json: the members that were trained here, with the digests of their weights and files,
  and the links of the authors' nine checkpoints. Paths are relative to the repository's clone.

A package that was installed from a wheel has nothing beside it, and so neither checkpoints nor
records. Checkpoints can be fetched then, see `WEIGHTS`. Commands that need such files ask here
before they start, so that they say at once what to give instead.
"""

import json
import os

from empir.errors import CheckpointError, EmpirError
from empir.runtime import ROOT

_FOLDER = os.path.dirname(os.path.abspath(__file__))
PAPER = os.path.join(_FOLDER, "paper.json")
MANIFEST = os.path.join(_FOLDER, "manifest.json")

#: Environment variable that says where the shipped checkpoints are outside of a clone: a folder
#: that holds the folder checkpoints, or an URL below which it is. The manifest has their digests.
WEIGHTS = "EMPIR_WEIGHTS"

#: A file that only a clone (or an unpacked source archive) has beside the package.
_MARK = os.path.join("examples", "mnist_attack.py")


def paper() -> dict:
    """The content of paper.json."""
    with open(PAPER, encoding="utf8") as file:
        return json.load(file)


def manifest() -> dict:
    """The content of manifest.json; `CheckpointError` if it is missing or damaged."""
    try:
        with open(MANIFEST, encoding="utf8") as file:
            content = json.load(file)
        texts = [member[key] for member in content["members"] for key in ("path", "sha256")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a member has no path or no digest")
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(
            f"{MANIFEST} cannot be read ({reason}): install the package again, or get it back by "
            "git checkout"
        )
    return content


def clone() -> str:
    """The folder of the clone that this package is run from; "" if it is an installed package."""
    return ROOT if os.path.isfile(os.path.join(ROOT, _MARK)) else ""


def require_clone(command: str) -> str:
    """The folder of the clone, for a command that works on the repository itself.

    Raises:
      EmpirError: if the package is not run from a clone.
    """
    if not clone():
        raise EmpirError(
            f"{command} works on the repository's own files, and this package is installed in "
            f"{ROOT}: run it from a clone"
        )
    return clone()


def shipped(folder: str, instead: str) -> str:
    """A folder that comes with the repository: below the current folder, or else in the clone.

    A folder of checkpoints that is in neither place is taken from where `WEIGHTS` says.

    Args:
      folder: relative to the clone, e.g. "checkpoints/mnist".
      instead: the flag with which a user names something else, e.g. "--members_dir=FOLDER".

    Raises:
      EmpirError: if the folder is in no place.
      CheckpointError: if a file that `WEIGHTS` leads to is missing, or is another than the
        manifest says.
    """
    for path in (folder, os.path.join(clone(), folder)):
        if os.path.isdir(path):
            return path
    base, files = os.environ.get(WEIGHTS), _listed_files(folder)
    if base and files:
        there = _downloaded if "://" in base else _checked
        return os.path.join(there(base, files), folder)
    if clone():
        raise EmpirError(f"this clone has no {folder}: give {instead}")
    hint = f", or set {WEIGHTS} to a clone or to an URL with its files" if files else ""
    raise EmpirError(
        f"this installed package has no {folder}: give {instead}, or run it from a clone of the "
        f"repository{hint}"
    )


def _listed_files(folder):
    """The files of the manifest's members in a folder, relative to the clone -> sha256."""
    return {
        f"{entry['path']}/{name}": sha256
        for entry in manifest()["members"]
        if f"{entry['path']}/".startswith(f"{folder}/")
        for name, sha256 in entry["files"].items()
    }


def _checked(base, files):
    """The folder `base`, which holds these files."""
    import pooch

    for name, sha256 in files.items():
        path = os.path.join(base, name)
        if not os.path.isfile(path):
            raise CheckpointError(f"{WEIGHTS}={base}: there is no file {path}")
        if pooch.file_hash(path) != sha256:
            raise CheckpointError(f"{WEIGHTS}={base}: {path} is not the file of {MANIFEST}")
    return base


def _downloaded(base, files):
    """The folder of the user's cache that these files of an URL are in."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    registry = {name: f"sha256:{sha256}" for name, sha256 in files.items()}
    place = pooch.create(pooch.os_cache("empir"), base.rstrip("/") + "/", registry=registry)
    try:
        for name in files:
            place.fetch(name)
    except (OSError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"{WEIGHTS}={base}: {name} cannot be fetched ({reason})")
    return str(place.path)
