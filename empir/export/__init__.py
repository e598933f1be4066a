"""Ensembles in the formats of other tools, each a folder that needs nothing of this project.

A format is a row of `FORMATS`: a function that fills a folder from a `source.Source`, which holds
an ensemble as plain data and arrays.
"""

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable, Optional, Tuple

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


#: What computes decisions where no gradient is needed: the names of --runtime.
RUNTIMES = ("tensorflow", "onnx")


def require_onnx() -> str:
    """The version of ONNX Runtime.

    Raises:
      EmpirError: if the packages are missing that write, check and compute ONNX files.
    """
    for package in ("onnx", "onnxruntime"):
        try:
            found = importlib.import_module(package)
        except ImportError:
            raise EmpirError(
                f"{package} is not installed: install the packages of requirements-onnx.txt, or "
                "empir with the extra onnx"
            )
    return found.__version__


def check_runtime(name: str) -> str:
    """Return the name of a runtime whose packages are installed.

    Raises:
      EmpirError: if there is none of that name, or its packages are missing.
    """
    if name not in RUNTIMES:
        raise EmpirError(f"runtime={name!r}: choose from {', '.join(RUNTIMES)}")
    if name == "onnx":
        require_onnx()
    return name


def attach_onnx(ensemble, session, dataset: str, architecture: str, version: Optional[str] = None):
    """Let ONNX Runtime compute an ensemble's decisions and logits of images from now on.

    Args:
      ensemble: an `Ensemble` of networks of this package; its gradients stay TensorFlow's.
      session: the session that holds its weights.
      dataset: what it classifies.
      architecture: name of the members' network.
      version: that ONNX Runtime must have here, as others may round differently; None takes any.

    Raises:
      EmpirError: if ONNX Runtime is missing or of another version, or for a network that cannot be
        exported.
    """
    found = require_onnx()
    if version not in (None, found):
        raise EmpirError(
            f"ONNX Runtime is {found} there, {version} with the driver: --mixed_workers accepts "
            "that"
        )
    from empir.experiments import experiment
    from empir.export import onnx_runtime, source

    chosen = replace(experiment(dataset), architecture=architecture)
    ensemble.runtime = onnx_runtime.Outputs(source.read(ensemble, chosen, session))


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
