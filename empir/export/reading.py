"""Members of the exported PyTorch form, as weights of released checkpoints.

What is read is a folder that `empir export --format=pytorch` made, or one like it: config.json, and
beside it the state dict of the network in weights.safetensors, also of a network that was trained
on in PyTorch. The levels in it are not read: the latent weights are quantized when they are loaded.
"""

import os
from dataclasses import dataclass
from typing import Dict, List, Tuple

import numpy as np

from empir.errors import CheckpointError, EmpirError, ResumeError
from empir.export.pytorch import CONFIG, FLATTENED, WEIGHTS, from_pytorch, name_of
from empir.models import checkpoints
from empir.nn import Architecture, architecture, family
from empir.nn.precision import Precision
from empir.records import runs


@dataclass(frozen=True)
class Read:
    """A member that was read.

    Attributes:
      precisions: of its quantized layers, in order.
      nb_filters: its width.
      arrays: released name -> float32 array, in TensorFlow's layout.
    """

    precisions: Tuple[Precision, ...]
    nb_filters: int
    arrays: Dict[str, np.ndarray]

    @property
    def precision(self) -> str:
        """As a flag says it."""
        return checkpoints.bits(self.precisions)


def read(folder: str) -> Tuple[Architecture, List[Read]]:
    """The network of a folder, and its members.

    Raises:
      CheckpointError: if a file is missing, damaged or of something else, if the weights are not
        those that config.json names, or if one is missing, of another shape, or left over.
    """
    config = _config(os.path.join(folder, CONFIG))
    network = architecture(config["architecture"])
    path = os.path.join(folder, WEIGHTS)
    tensors = _tensors(path, config.get("weights_sha256"))
    found = []
    for number, entry in enumerate(config["members"]):
        precisions = _precisions(network, entry, f"{CONFIG}, member {number + 1}")
        arrays = {}
        for own, released in network.names(family(precisions)).items():
            name = f"networks.{number}.{name_of(own)}"
            if name not in tensors:
                raise CheckpointError(f"{path} has no {name}")
            arrays[released] = _array(network, own, tensors.pop(name), f"{path}, {name}")
        found.append(Read(precisions, entry["nb_filters"], arrays))
    left = [name for name in tensors if not name.endswith((".levels", ".num_batches_tracked"))]
    if left:
        raise CheckpointError(f"{path} holds {', '.join(left[:3])}, which no member has")
    return network, found


def write(folder: str, out: str) -> List[str]:
    """Make a folder of released checkpoints of a folder's members; returns PRECISION:CHECKPOINT.

    Args:
      folder: see `read`.
      out: does not exist yet, or is empty.

    Raises:
      CheckpointError: see `read`.
      EmpirError: if `out` cannot be written.
    """
    from empir import runtime
    from empir.models.member import member_from_arrays
    from empir.runtime import tf

    network, members = read(folder)
    texts = []
    with runs.new_folder(out) as unfinished:
        for number, member in enumerate(members, 1):
            # Refuses what is of another network or width.
            with tf.Graph().as_default(), runtime.session(operations=1) as session:
                checked = member_from_arrays(
                    network,
                    member.precisions,
                    member.arrays,
                    session,
                    folder,
                    engine=False,
                    nb_filters=member.nb_filters,
                )
            name = f"model{number}-{member.precision.replace('/', '-')}"
            checkpoints.save(os.path.join(unfinished, name), member.arrays)
            record = {
                "network": network.name,
                "precisions": [str(precision) for precision in member.precisions],
                "sha256": checked.sha256,
                "imported_from": WEIGHTS,
            }
            runs.write_json(os.path.join(unfinished, name, checkpoints.RECORD), record)
            texts.append(f"{member.precision}:{os.path.join(out, name)}")
    return texts


def _config(path):
    """The content of config.json, as far as it is read here."""
    try:
        config = runs.read_json(path)
    except ResumeError as error:
        raise CheckpointError(str(error).rpartition(":")[0])
    name, members = config.get("architecture"), config.get("members")
    if config.get("format") != 1 or name not in FLATTENED or not isinstance(members, list):
        raise CheckpointError(
            f"{path} is not of an export in the format 1 with a network of {', '.join(FLATTENED)}"
        )
    return config


def _precisions(network, entry, where):
    """The precisions of a member's quantized layers, in order."""
    names = network.quantized_layers
    try:
        layers = entry["layers"]
        if set(layers) != set(names) or type(entry["nb_filters"]) is not int:
            raise KeyError
        return tuple(Precision.of(**layers[name]) for name in names)
    except EmpirError as error:
        raise CheckpointError(f"{where}: {error}")
    except (KeyError, TypeError):
        raise CheckpointError(f"{where}: it needs nb_filters, and bits of {', '.join(names)}")


def _tensors(path, sha256):
    """The arrays of weights.safetensors by name."""
    import safetensors
    import safetensors.numpy

    try:
        content = runs.read_regular(path)
        tensors = safetensors.numpy.load(content)
    except (OSError, safetensors.SafetensorError, KeyError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"{path} is no readable file of weights ({reason})")
    if sha256 not in (None, runs.file_digest(path)):
        raise CheckpointError(
            f"{path} is not the file that {CONFIG} names by its weights_sha256: fetch both again, "
            "or remove that key if the weights were trained on"
        )
    return tensors


def _array(network, own, tensor, where):
    if tensor.dtype != np.float32:
        raise CheckpointError(f"{where} is of type {tensor.dtype}, but weights are float32")
    if not np.isfinite(tensor).all():
        raise CheckpointError(f"{where} holds NaN or infinity")
    try:
        return np.ascontiguousarray(from_pytorch(network.name, own, tensor))
    except ValueError:
        shape = checkpoints.shape_text(tensor.shape)
        raise CheckpointError(f"{where} has the shape {shape}, which is not {network.name}'s")
