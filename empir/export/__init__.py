"""Ensembles in the formats of other tools, each a folder that needs nothing of this project.

A format is a row of `FORMATS`: a function that fills a folder from a `source.Source`, which holds
an ensemble as plain data and arrays.
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Tuple

from empir.errors import EmpirError
from empir.records import runs

if TYPE_CHECKING:
    from empir.export.source import Source


@dataclass(frozen=True)
class Format:
    """A format that ensembles are exported in.

    Attributes:
      function: "module:function"; `function(source, folder, **options)` writes the files of a
        `Source` into an empty folder, and raises `EmpirError` for an ensemble that the format
        cannot hold.
      about: what the folder holds, for the help of --format.
      options: names of the options that it takes.
    """

    function: str
    about: str
    options: Tuple[str, ...] = ()

    def load(self) -> Callable[..., None]:
        """The function that `function` names."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)


#: Formats by the name that --format takes.
FORMATS = {
    "onnx": Format(
        "empir.export.onnx_files:write",
        "files for ONNX Runtime, of the ensemble and of each member",
        ("precision",),
    ),
    "pytorch": Format("empir.export.pytorch:write", "a network for PyTorch 2 and its weights"),
}


def write(source: "Source", name: str, folder: str, **options):
    """Export an ensemble: the folder is complete, or is not there.

    Args:
      source: the ensemble.
      name: of a format.
      folder: does not exist yet, or is empty.
      **options: of the format.

    Raises:
      EmpirError: for an unknown format, an option that it does not take, an ensemble that it cannot
        hold, or a folder that holds something or cannot be written.
    """
    if name not in FORMATS:
        raise EmpirError(f"format {name!r}: choose from {', '.join(FORMATS)}")
    for option in options:
        if option not in FORMATS[name].options:
            raise EmpirError(f"--{option} is not for the format {name}: drop it")
    with runs.new_folder(folder) as unfinished:
        FORMATS[name].load()(source, unfinished, **options)
