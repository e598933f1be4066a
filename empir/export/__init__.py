"""Ensembles in the formats of other tools, each a folder that needs nothing of this project.

A format is a row of `FORMATS`: a function that fills a folder from a `source.Source`, which holds
an ensemble as plain data and arrays.
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from empir.errors import EmpirError
from empir.records import runs

if TYPE_CHECKING:
    from empir.export.source import Source


@dataclass(frozen=True)
class Format:
    """A format that ensembles are exported in.

    Attributes:
      function: "module:function"; `function(source, folder)` writes the files of a `Source` into
        an empty folder, and raises `EmpirError` for an ensemble that the format cannot hold.
      about: what the folder holds, for the help of --format.
    """

    function: str
    about: str

    def load(self) -> Callable[["Source", str], None]:
        """The function that `function` names."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)


#: Formats by the name that --format takes.
FORMATS = {
    "pytorch": Format("empir.export.pytorch:write", "a network for PyTorch 2 and its weights"),
}


def write(source: "Source", name: str, folder: str):
    """Export an ensemble: the folder is complete, or is not there.

    Args:
      source: the ensemble.
      name: of a format.
      folder: does not exist yet, or is empty.

    Raises:
      EmpirError: for an unknown format, an ensemble that it cannot hold, or a folder that holds
        something or cannot be written.
    """
    if name not in FORMATS:
        raise EmpirError(f"format {name!r}: choose from {', '.join(FORMATS)}")
    with runs.new_folder(folder) as unfinished:
        FORMATS[name].load()(source, unfinished)
