"""From checkpoints to members: build a network, load its weights, quantize them once."""

from typing import Sequence

from empir import checkpoints
from empir.backend import tf
from empir.ensemble import Member
from empir.layers import quantize_once
from empir.models import Architecture, family, weights
from empir.precision import per_layer


def load_member(
    network: Architecture, precision, path: str, session, name: str = "model", **options
) -> Member:
    """A member with the weights of a released checkpoint, in the session's graph.

    Args:
      network: its architecture.
      precision: a `Precision`, or one per quantized layer.
      path: checkpoint directory or prefix.
      session: session that will hold the weights.
      name: scope of its variables.
      **options: further arguments of `network.build`, e.g. nb_filters.

    Raises:
      CheckpointError: if the checkpoint is missing, corrupt, or of another network or precision.
    """
    precisions = per_layer(precision, len(network.quantized_layers))
    with tf.name_scope(name):
        model = network.build(precisions, trainable=False, **options)
    sha256 = checkpoints.load(path, network, precisions, model, session)
    quantize_once(model, session)
    return Member(model, precisions, path=path, sha256=sha256)


def member_from_arrays(
    network: Architecture, precisions: Sequence, arrays: dict, session, path=None, **options
) -> Member:
    """A member with weights given under their released names, e.g. by `empir.training.train`.

    `path` is where they are kept, if anywhere; it is for the record and is not read.
    """
    model = network.build(precisions, trainable=False, **options)
    for own, released in network.released_names[family(precisions)].items():
        weights(model)[own].load(arrays[released], session)
    quantize_once(model, session)
    return Member(model, precisions, path=path, sha256=checkpoints.digest(arrays))
