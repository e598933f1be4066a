"""A network of this package as a member of an ensemble, and how it is loaded from a checkpoint."""

import copy
from typing import List, Optional, Sequence, Tuple

from empir import runtime
from empir.fast.engine import engine_for, rearrange_once
from empir.models import checkpoints
from empir.models.model import Model
from empir.nn import Architecture
from empir.nn.layers import draws, layers_of, quantize_once, with_quantizers
from empir.nn.precision import per_layer
from empir.nn.quantizers import BACKWARD_PASSES, check_backward
from empir.runtime import keras, tf


class Member(Model):
    """A Keras network as a model.

    Args:
      model: a `keras.Model` from images to probabilities, with layers "logits" and "probs"
        (`empir.nn`).
      precisions: the network's precision per quantized layer.
      path, sha256: where its weights came from, and their digest; for records.
      engine: an `empir.fast.engine.Engine` of the model that computes its logits; None = layer by
        layer.
      nb_filters, usual_width: see `Model`.

    Attributes:
      backward: name of the quantizers' gradient, see `quantizers.DoReFaActivations`.
    """

    backward = BACKWARD_PASSES[0]

    def __init__(
        self,
        model,
        precisions,
        path=None,
        sha256=None,
        engine=None,
        nb_filters=None,
        usual_width=True,
    ):
        super().__init__()
        self.model = model
        self.precisions = tuple(precisions)
        self.path = path
        self.sha256 = sha256
        self.engine = engine
        self.nb_filters = nb_filters
        self.usual_width = usual_width
        self.layer_names = [layer.name for layer in layers_of(model)]

    @property
    def is_full_precision(self) -> bool:
        """Whether no layer is quantized."""
        return all(precision.is_full for precision in self.precisions)

    @property
    def draws(self) -> bool:
        """Whether the network or a quantizer draws at random."""
        return draws(self.model)

    @property
    def input_shape(self) -> Tuple:
        """[height, width, channels] of an image."""
        return tuple(self.model.input_shape[1:])

    def with_backward(self, name: str) -> "Member":
        """See `Model.with_backward`."""
        other = copy.copy(self)
        other.backward = check_backward(name)
        return other

    def describe(self) -> dict:
        """Where it came from and its bits, per layer where layers differ, as plain data."""
        bits = {
            "weight_bits": [p.weight_bits for p in self.precisions],
            "activation_bits": [p.activation_bits for p in self.precisions],
        }
        if len(set(self.precisions)) == 1:
            bits = {name: values[0] for name, values in bits.items()}
        return dict(path=self.path, sha256=self.sha256, **bits)

    def fprop(self, x):
        """Every layer's output, by the layer's name."""
        layers = layers_of(self.model)
        inner = keras.models.Model(self.model.inputs, [layer.output for layer in layers])
        with with_quantizers(self.model, self.backward):
            return dict(zip(self.layer_names, inner.call(x)))

    def get_logits(self, x):
        """Logits, float32 [n, classes]."""
        if self.engine is None:
            return self.fprop(x)["logits"]
        with with_quantizers(self.model, self.backward):
            return self.engine(x)

    def get_params(self):
        """The latent weights."""
        return self.model.weights


def load_members(
    network: Architecture,
    specs: Sequence[checkpoints.MemberSpec],
    session,
    name: str = "model",
    engine: Optional[bool] = None,
    **options,
) -> List[Member]:
    """Members with the weights of released checkpoints, in the session's graph.

    Args:
      network: their architecture.
      specs: precision and path of each: checkpoint directory or prefix.
      session: session that will hold the weights.
      name: the first part of their variables' scopes, before their numbers, which count from 1.
      engine: whether to compute them by `empir.fast.engine` instead of layer by layer; None = as
        `engine.engine_for` decides.
      **options: further arguments of `network.build`. `nb_filters` need not be given: the width
        is read from each checkpoint.

    Raises:
      CheckpointError: if a checkpoint is missing, corrupt, or of another network, precision or
        width, by its weights or by the training.json beside it.
    """
    members, values = [], {}
    for number, spec in enumerate(specs, 1):
        precisions = per_layer(spec.precision, len(network.quantized_layers))
        path = spec.path or ""
        arrays = checkpoints.read_member(path, network, precisions)
        with tf.name_scope(f"{name}{number}"):
            member, own = _built(network, precisions, arrays, path, engine, options)
        members.append(member)
        values.update(own)
    _fill(members, values, session)
    return members


def load_member(network: Architecture, precision, path: str, session, **options) -> Member:
    """`load_members` of one, whose precision may be one per quantized layer."""
    return load_members(network, [checkpoints.MemberSpec(precision, path)], session, **options)[0]


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
    read. For `engine` and `options` see `load_members`.

    Raises:
      CheckpointError: if they are of another network, precision or width.
    """
    member, values = _built(network, precisions, arrays, path, engine, options)
    _fill([member], values, session)
    return member


def _built(network, precisions, arrays, path, engine, options):
    """A member whose weights no session holds yet, and their values by variable."""
    options = checkpoints.with_width(network, arrays, options)
    model = network.build(precisions, trainable=False, **options)
    values = checkpoints.values(arrays, network, precisions, model, path)
    width = options.get("nb_filters", network.nb_filters)
    member = Member(
        model,
        precisions,
        engine=engine_for(model, engine),
        path=path,
        sha256=checkpoints.digest(arrays),
        nb_filters=width,
        usual_width=width == network.nb_filters,
    )
    return member, values


def _fill(members, values, session):
    """Give members their weights: TensorFlow prepares a graph for each session call, so in few."""
    runtime.assign(values, session)
    keep_computed(members, session)


def keep_computed(members: Sequence[Member], session):
    """Compute what the session keeps of members' weights; see `layers.quantize_once`."""
    quantize_once([member.model for member in members], session)
    rearrange_once([member.engine for member in members if member.engine], session)


def ready_member(model, precisions: Sequence, session, engine=None, **origin) -> Member:
    """The member of a model with `trainable=False` whose weights the session holds.

    Args:
      model, precisions: see `Member`.
      session: computes what is kept of the weights.
      engine: see `load_members`.
      **origin: path, sha256, nb_filters and usual_width, see `Member`.
    """
    member = Member(model, precisions, engine=engine_for(model, engine), **origin)
    keep_computed([member], session)
    return member
