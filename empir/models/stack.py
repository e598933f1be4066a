"""Networks layer by layer: each gets its precision, its seed and the original's first weights."""

from empir.backend import keras
from empir.layers import QuantConv2D, QuantDense, UnitNorm
from empir.precision import FULL, per_layer
from empir.quantizers import DoReFaWeights, activation_quantizer, weight_quantizer

#: The layer that `stochastic_weights` (`--rand`) makes stochastic.
STOCHASTIC_LAYER = "conv3"


class Stack:
    """A `keras.Sequential` in the making; `model` is the network so far.

    Faithfulness: convolutions start from truncated normals, linear layers from normals, both
    scaled to L2 norm one per output unit (FACTS 2.2). No layer has a bias.

    Args:
      name: of the network.
      input_shape: [height, width, channels].
      quantized_layers: names of the layers that `precision` is about; all others stay at full
        precision.
      precision: a `Precision` for all of those, or one for each.
      stochastic_rounding: quantize weights and activations with stochastic rounding
        (`--stocRound`).
      stochastic_weights: draw the third convolution's quantized weights anew in every forward
        pass (`--rand`), at its own weight bits or, where it has none, at one bit.
      trainable: False quantizes the weights once per session (`layers.quantize_once`).
      seed: seed of the initial weights; the i-th layer with weights uses seed + i.

    Raises:
      EmpirError: for bits outside 1..32 or another number of precisions.
    """

    def __init__(
        self,
        name: str,
        input_shape,
        quantized_layers,
        precision=FULL,
        stochastic_rounding: bool = False,
        stochastic_weights: bool = False,
        trainable: bool = True,
        seed=None,
    ):
        precisions = per_layer(precision, len(quantized_layers))
        self.model = keras.Sequential(name=name)
        self.add(keras.layers.InputLayer(input_shape=input_shape))
        self._precisions = dict(zip(quantized_layers, precisions))
        self._stochastic_rounding = stochastic_rounding
        self._stochastic_weights = stochastic_weights
        self._trainable = trainable
        self._seed = seed

    def add(self, layer):
        """Append any Keras layer."""
        self.model.add(layer)

    def relu(self, name: str):
        """Append a rectifier."""
        self.add(keras.layers.Activation("relu", name=name))

    def conv(self, name: str, filters: int, size: int, strides: int = 1, padding: str = "same"):
        """Append a square convolution, quantized if it is one of the quantized layers."""
        draw = keras.initializers.TruncatedNormal(stddev=0.1, seed=self._next_seed())
        common = self._common(name, draw)
        self.add(QuantConv2D(filters, size, strides=strides, padding=padding, **common))

    def linear(self, name: str, units: int):
        """Append a linear layer, quantized if it is one of the quantized layers."""
        draw = keras.initializers.RandomNormal(seed=self._next_seed())
        self.add(QuantDense(units, **self._common(name, draw)))

    def _next_seed(self):
        if self._seed is None:
            return None
        self._seed += 1
        return self._seed - 1

    def _common(self, name, draw):
        bits = self._precisions.get(name, FULL)
        kernel_quantizer = weight_quantizer(bits.weight_bits, self._stochastic_rounding)
        if self._stochastic_weights and name == STOCHASTIC_LAYER:
            kernel_quantizer = DoReFaWeights(bits.weight_bits or 1, stochastic=True)
        return dict(
            name=name,
            use_bias=False,
            input_quantizer=activation_quantizer(bits.activation_bits, self._stochastic_rounding),
            kernel_quantizer=kernel_quantizer,
            kernel_initializer=UnitNorm(draw),
            trainable=self._trainable,
        )
