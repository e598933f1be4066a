"""A network of this package as a member of an ensemble."""

import copy
from typing import Tuple

from empir.models.model import Model
from empir.nn.layers import draws, layers_of, with_quantizers
from empir.nn.quantizers import BACKWARD_PASSES, check_backward
from empir.runtime import keras


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
        """Whether a quantizer draws at random."""
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
