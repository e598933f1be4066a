"""The files beside the package in a clone of its repository: shipped members and kept records.

A package that was installed from a wheel has nothing beside it. Commands that need such files ask
here before they start, so that they say at once what to give instead.
"""

import os

from empir.errors import EmpirError
from empir.runtime import ROOT

#: A file that only a clone (or an unpacked source archive) has beside the package.
_MARK = os.path.join("examples", "mnist_attack.py")


def root() -> str:
    """The folder of the clone that this package is run from; "" if it is an installed package."""
    return ROOT if os.path.isfile(os.path.join(ROOT, _MARK)) else ""


def require(command: str) -> str:
    """The folder of the clone, for a command that works on the repository itself.

    Raises:
      EmpirError: if the package is not run from a clone.
    """
    if not root():
        raise EmpirError(
            f"{command} works on the repository's own files, and this package is installed in "
            f"{ROOT}: run it from a clone"
        )
    return root()


def shipped(folder: str, instead: str) -> str:
    """A folder that comes with the repository: below the current folder, or else in the clone.

    Args:
      folder: relative to the clone, e.g. "checkpoints/mnist".
      instead: the flag with which a user names something else, e.g. "--members_dir=FOLDER".

    Raises:
      EmpirError: if the folder is in neither place.
    """
    for path in (folder, os.path.join(root(), folder)):
        if os.path.isdir(path):
            return path
    if root():
        raise EmpirError(f"this clone has no {folder}: give {instead}")
    raise EmpirError(
        f"this installed package has no {folder}: give {instead}, or run it from a clone of the "
        "repository"
    )
