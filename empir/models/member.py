"""A network of this package as a member of an ensemble, and how it is loaded from a checkpoint."""

import copy
from typing import Optional, Sequence, Tuple

from empir.fast.engine import engine_for
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
    options = checkpoints.with_width(network, arrays, options)
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
