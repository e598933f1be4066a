"""What a file of `keras.Model.save` says of its model, read without building the model.

A model's `Lambda` layers are code, which runs when Keras builds the model. So the description is
read first, and whatever would run, or is of no class that is known here, is refused by its name.
Neither TensorFlow nor Keras is imported, for commands that have not set their threads yet.

    python -m empir.models.keras_file FILE

is how a file is first read, in a process of its own: HDF5's library ends its process on some
damaged files. It prints what it found as JSON.
"""

import copy
import functools
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Container, Iterator

from empir import runtime
from empir.errors import CheckpointError

#: The layer whose configuration is a function's compiled code.
CODE = "Lambda"

#: What is said after the name of a file that is no model's.
NO_MODEL = " is no model that keras.Model.save wrote: "


@dataclass(frozen=True)
class Part:
    """An object of a model's description: a layer, an initializer, a quantizer, a model within.

    Attributes:
      layer: name of the layer that it belongs to, or is.
      class_name: of the object.
      config: arguments of its class.
    """

    layer: str
    class_name: str
    config: dict


@dataclass(frozen=True)
class KerasFile:
    """A file of `keras.Model.save`.

    Attributes:
      path: of the file.
      sha256: of its content.
      description: of the model, as Keras' `model_from_config` takes it.
      values: number of the weights' values that it holds.
    """

    path: str
    sha256: str
    description: dict
    values: int

    @property
    def parts(self) -> Iterator[Part]:
        """All objects of the description, at whatever depth, the outer ones first."""
        return _parts(self.description, "model")

    @property
    def draws(self) -> bool:
        """Whether a quantizer of this package rounds at random."""
        return any(part.config.get("stochastic") for part in self.parts)

    def check(self, known: Container[str], trust: bool = False):
        """Raise `CheckpointError` for a model that is not to be built.

        Args:
          known: names of the classes that it may consist of.
          trust: build it also if layers hold code.
        """
        for part in self.parts:
            if part.class_name == CODE and not trust:
                raise CheckpointError(
                    "%s: layer %r is a Lambda, which holds code that loading it runs: if you know "
                    "whose file this is, load it with --trust (from Python trust=True)"
                    % (self.path, part.layer)
                )
            if part.class_name not in known:
                raise CheckpointError(
                    "%s: %r of layer %r is no class of Keras 2.2.4 or of this project: build the "
                    "model in Python, and give it to empir.models.keras_member.KerasMember"
                    % (self.path, part.class_name, part.layer)
                )
            dtype = part.config.get("dtype") or "float32"
            if dtype != "float32":
                raise CheckpointError(
                    "%s: layer %r is of type %s: save the model as float32, which everything here "
                    "is computed in" % (self.path, part.layer, dtype)
                )


def _parts(value, layer) -> Iterator[Part]:
    if isinstance(value, list):
        for item in value:
            yield from _parts(item, layer)
    if not isinstance(value, dict):
        return
    config = value.get("config")
    if "class_name" in value and "config" in value:
        arguments = config if isinstance(config, dict) else {}
        layer = str(arguments.get("name") or value.get("name") or layer)
        yield Part(layer, str(value["class_name"]), arguments)
    for item in value.values():
        yield from _parts(item, layer)


def read(path: str) -> KerasFile:
    """A file's description of its model.

    Raises:
      CheckpointError: if the file is missing or damaged, holds no model, or weights of another type
        than float32.
    """
    if not os.path.isfile(path):
        raise CheckpointError(path + NO_MODEL + "no such file")
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise CheckpointError("%s cannot be read: %s" % (path, error.strerror))
    found = _found(os.path.abspath(path), sha256)
    if "error" in found:
        raise CheckpointError("%s%s" % (path, found["error"]))
    # Keras takes apart what it is given to build.
    return KerasFile(path, sha256, copy.deepcopy(found["description"]), found["values"])


@functools.lru_cache(maxsize=16)
def _found(path, _) -> dict:
    """What another process finds in a file of that digest: see `_content`, or its "error"."""
    folders = [runtime.ROOT, os.environ.get("PYTHONPATH", "")]
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "empir.models.keras_file", path],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, folders))),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        return json.loads(process.stdout.decode())
    except (ValueError, RecursionError):
        return {"error": NO_MODEL + "it is damaged"}


def _content(path) -> dict:
    """The "description" in an HDF5 file, and "values", the number of those of its weights.

    Or an "error", to be read after the file's name.
    """
    try:
        return _read(path)
    except CheckpointError as error:
        return {"error": str(error)}
    except Exception as error:  # HDF5 and JSON raise all kinds on files of other kinds
        return {"error": NO_MODEL + (" ".join(str(error).split()) or type(error).__name__)}


def _read(path) -> dict:
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise ValueError(
                "it holds weights alone" if "layer_names" in file.attrs else "it describes no model"
            )
        text = file.attrs["model_config"]
        description = json.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
        if not isinstance(description, dict):
            raise ValueError("its description of the model is none")
        counts, weights = [], file["model_weights"]
        _check_group(weights)
        weights.visititems(lambda name, item: counts.append(_check_weights(name, item)))
        return {"description": description, "values": sum(counts)}


def _check_weights(name, item) -> int:
    """The number of values of an array of weights; 0 of a group of them."""
    if not hasattr(item, "dtype"):
        _check_group(item)
        return 0
    if item.dtype != "float32":
        raise CheckpointError(
            ": %s is of type %s: save the model as float32, which everything here is computed in"
            % (name, item.dtype)
        )
    if item.id.get_storage_size() < 4 * item.size:  # Keras writes whole arrays, as they are
        raise CheckpointError(": %s is damaged, or compressed" % name)
    return int(item[()].size)


def _check_group(group):
    """Read a group's attributes; raise `CheckpointError` if part of its weights is elsewhere."""
    import h5py

    dict(group.attrs)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise CheckpointError(": %s is a link to weights elsewhere" % name)


if __name__ == "__main__":
    print(json.dumps(_content(sys.argv[1])))
