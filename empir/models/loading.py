"""From checkpoints to members: build a network, load its weights, quantize them once."""

from typing import Optional, Sequence

from empir.fast.engine import engine_for
from empir.models import checkpoints, identity
from empir.models.member import Member
from empir.nn import Architecture
from empir.nn.layers import quantize_once
from empir.nn.precision import per_layer
from empir.runtime import tf


def load_member(
    network: Architecture,
    precision,
    path: str,
    session,
    name: str = "model",
    engine: Optional[bool] = None,
    **options,
) -> Member:
    """A member with the weights of a released checkpoint, in the session's graph.

    Args:
      network: its architecture.
      precision: a `Precision`, or one per quantized layer.
      path: checkpoint directory or prefix.
      session: session that will hold the weights.
      name: scope of its variables.
      engine: whether to compute it by `empir.fast.engine` instead of layer by layer; None = as
        `engine.engine_for` decides.
      **options: further arguments of `network.build`. `nb_filters` need not be given: the width
        is read from the checkpoint.

    Raises:
      CheckpointError: if the checkpoint is missing, corrupt, or of another network, precision or
        width, by its weights or by the training.json beside it.
    """
    precisions = per_layer(precision, len(network.quantized_layers))
    arrays = checkpoints.read_member(path, network, precisions)
    with tf.name_scope(name):
        return member_from_arrays(network, precisions, arrays, session, path, engine, **options)


def member_from_arrays(
    network: Architecture,
    precisions: Sequence,
    arrays: dict,
    session,
    path: Optional[str] = None,
    engine: Optional[bool] = None,
    **options,
) -> Member:
    """A member with weights given under their released names, e.g. by `empir.training.train`.

    `path` is where they are kept, if anywhere; it is for the record and for errors, and is not
    read. For `engine` and `options` see `load_member`.

    Raises:
      CheckpointError: if they are of another network, precision or width.
    """
    options = identity.with_width(network, arrays, options)
    model = network.build(precisions, trainable=False, **options)
    sha256 = checkpoints.assign(arrays, network, precisions, model, session, path)
    width = options.get("nb_filters", network.nb_filters)
    return ready_member(
        model,
        precisions,
        session,
        engine,
        path=path,
        sha256=sha256,
        nb_filters=width,
        usual_width=width == network.nb_filters,
    )


def ready_member(model, precisions: Sequence, session, engine=None, **origin) -> Member:
    """The member of a model with `trainable=False` whose weights the session holds.

    Args:
      model, precisions: see `Member`.
      session: computes what is kept of the weights.
      engine: see `load_member`.
      **origin: path, sha256, nb_filters and usual_width, see `Member`.
    """
    quantize_once(model, session)
    member = Member(model, precisions, engine=engine_for(model, engine), **origin)
    if member.engine:
        member.engine.prepare(session)
    return member
