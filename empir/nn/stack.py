"""Networks layer by layer: each gets its precision, its seed and the original's first weights."""

from empir.errors import EmpirError
from empir.nn.layers import BatchNorm, PositionBias, QuantConv2D, QuantDense, ScaledReLU, UnitNorm
from empir.nn.precision import FULL, per_layer
from empir.nn.quantizers import NormalWeights, activation_quantizer, weight_quantizer
from empir.runtime import keras


class Stack:
    """A `keras.Sequential` in the making; `model` is the network so far.

    Faithfulness: convolutions start from truncated normals, linear layers from normals, both
    scaled to L2 norm one per output unit; grouped convolutions are not scaled, and those of a
    full-precision network start from He's variance; biases start at zero (docs/original.md,
    Networks).

    Args:
      name: of the network.
      input_shape: [height, width, channels].
      quantized_layers: names of the layers that `precision` is about; all others stay at full
        precision.
      precision: a `Precision` for all of those, or one for each.
      stochastic_rounding: quantize weights and activations with stochastic rounding
        (`--stocRound`).
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
        trainable: bool = True,
        seed=None,
    ):
        precisions = per_layer(precision, len(quantized_layers))
        self.model = keras.Sequential(name=name)
        self.add(keras.layers.InputLayer(input_shape=input_shape))
        self._precisions = dict(zip(quantized_layers, precisions))
        self._stochastic_rounding = stochastic_rounding
        self._trainable = trainable
        self._seed = seed

    def add(self, layer):
        """Append any Keras layer."""
        self.model.add(layer)

    def relu(self, name: str):
        """Append a rectifier."""
        self.add(keras.layers.Activation("relu", name=name))

    def conv(self, name: str, filters: int, size: int, strides=1, padding="same", groups=1):
        """Append a square convolution without bias, quantized if it is a quantized layer."""
        self.add(
            QuantConv2D(
                filters,
                size,
                strides=strides,
                padding=padding,
                groups=groups,
                kernel_initializer=self._first_kernel(groups),
                use_bias=False,
                **self._common(name),
            )
        )

    def random_conv(self, name: str, filters: int, size: int, padding="same"):
        """Append a square convolution whose kernel is drawn around the trained one in every pass.

        Raises:
          EmpirError: if the network is quantized, as there is no such network.
        """
        if not all(precision.is_full for precision in self._precisions.values()):
            raise EmpirError(f"{self.model.name} is at full precision only: leave out its bits")
        first = keras.initializers.TruncatedNormal(stddev=0.2, seed=self._next_seed())
        common = dict(self._common(name), kernel_quantizer=NormalWeights())
        self.add(
            QuantConv2D(
                filters, size, padding=padding, kernel_initializer=first, use_bias=False, **common
            )
        )

    def scaled_relu(self, name: str, initial: float):
        """Append a rectifier times a trainable factor with a first value."""
        self.add(ScaledReLU(initial, trainable=self._trainable, name=name))

    def linear(self, name: str, units: int, use_bias: bool = False):
        """Append a linear layer, quantized if it is one of the quantized layers."""
        draw = UnitNorm(keras.initializers.RandomNormal(seed=self._next_seed()))
        common = self._common(name)
        self.add(QuantDense(units, kernel_initializer=draw, use_bias=use_bias, **common))

    def batch_norm(self, name: str):
        """Append batch normalisation: momentum 0.99, epsilon 0.001 (docs/original.md, Networks)."""
        self.add(BatchNorm(momentum=0.99, epsilon=1e-3, trainable=self._trainable, name=name))

    def position_bias(self, name: str):
        """Append a bias per position and channel."""
        self.add(PositionBias(trainable=self._trainable, name=name))

    def max_pool(self, name: str, padding: str):
        """Append the maximum of windows of 3 at steps of 2."""
        self.add(keras.layers.MaxPooling2D(3, 2, padding, name=name))

    def average_pool(self, name: str):
        """Append the average of windows of 3 at steps of 2, without padding."""
        self.add(keras.layers.AveragePooling2D(3, 2, "valid", name=name))

    def flatten(self):
        """Append the flattening of [height, width, channels]."""
        self.add(keras.layers.Flatten(name="flatten"))

    def _first_kernel(self, groups):
        seed = self._next_seed()
        if groups == 1:
            return UnitNorm(keras.initializers.TruncatedNormal(stddev=0.1, seed=seed))
        if all(precision.is_full for precision in self._precisions.values()):
            return keras.initializers.VarianceScaling(2.0, "fan_in", "normal", seed=seed)
        return keras.initializers.TruncatedNormal(stddev=0.2, seed=seed)

    def _next_seed(self):
        if self._seed is None:
            return None
        self._seed += 1
        return self._seed - 1

    def _common(self, name):
        bits = self._precisions.get(name, FULL)
        return dict(
            name=name,
            input_quantizer=activation_quantizer(bits.activation_bits, self._stochastic_rounding),
            kernel_quantizer=weight_quantizer(bits.weight_bits, self._stochastic_rounding),
            trainable=self._trainable,
        )
