"""The layers of networks: each gets its precision, its seed and its first weights."""

from empir.errors import EmpirError
from empir.nn.layers import BatchNorm, PositionBias, QuantConv2D, QuantDense, ScaledReLU, UnitNorm
from empir.nn.precision import FULL, per_layer
from empir.nn.quantizers import NormalWeights, activation_quantizer, weight_quantizer
from empir.runtime import keras


class Builder:
    """Layers for a network of given precision.

    Each method takes a Keras tensor and the name of a new layer, and returns the layer's output.
    Other Keras layers can be called on the same tensors; those with weights need a name.

    Faithfulness: convolutions start from truncated normals, linear layers from normals, both
    scaled to L2 norm one per output unit; grouped convolutions are not scaled, and those of a
    full-precision network start from He's variance; biases start at zero (docs/original.md,
    Networks).

    Args:
      network: its name, for errors.
      quantized_layers: names of the layers that `precision` is about; all others stay at full
        precision.
      precision: a `Precision` for all of those, or one for each.
      stochastic_rounding: quantize weights and activations with stochastic rounding
        (`--stocRound`).
      trainable: False quantizes the weights once per session (`layers.quantize_once`).
      seed: seed of the initial weights; the i-th layer with weights uses seed + i.

    Attributes:
      trainable: see above.
      draws: whether a layer was made whose kernel is drawn in every pass.

    Raises:
      EmpirError: for bits outside 1..32 or another number of precisions.
    """

    def __init__(
        self,
        network: str,
        quantized_layers,
        precision=FULL,
        stochastic_rounding: bool = False,
        trainable: bool = True,
        seed=None,
    ):
        precisions = per_layer(precision, len(quantized_layers))
        self.trainable = trainable
        self.draws = False
        self._network = network
        self._precisions = dict(zip(quantized_layers, precisions))
        self._unused = set(quantized_layers)
        self._stochastic_rounding = stochastic_rounding
        self._seed = seed

    def check(self):
        """Raise `EmpirError` if a layer that is to be quantized was not built."""
        if self._unused:
            raise EmpirError(
                f"{self._network} has no convolution and no linear layer of the name "
                f"{', '.join(sorted(self._unused))}, which quantized_layers lists"
            )

    def relu(self, x, name: str):
        """A rectifier."""
        return keras.layers.Activation("relu", name=name)(x)

    def conv(self, x, name: str, filters: int, size: int, strides=1, padding="same", groups=1):
        """A square convolution without bias, quantized if it is a quantized layer."""
        layer = QuantConv2D(
            filters,
            size,
            strides=strides,
            padding=padding,
            groups=groups,
            kernel_initializer=self._first_kernel(groups),
            use_bias=False,
            **self._common(name),
        )
        return layer(x)

    def random_conv(self, x, name: str, filters: int, size: int, padding="same"):
        """A square convolution whose kernel is drawn around the trained one in every pass.

        The network's `Architecture` must have `draws=True`.

        Raises:
          EmpirError: if the network is quantized, as there is no such network.
        """
        if not all(precision.is_full for precision in self._precisions.values()):
            raise EmpirError(f"{self._network} is at full precision only: leave out its bits")
        self.draws = True
        first = keras.initializers.TruncatedNormal(stddev=0.2, seed=self._next_seed())
        common = dict(self._common(name), kernel_quantizer=NormalWeights())
        layer = QuantConv2D(
            filters, size, padding=padding, kernel_initializer=first, use_bias=False, **common
        )
        return layer(x)

    def scaled_relu(self, x, name: str, initial: float):
        """A rectifier times a trainable factor with a first value."""
        return ScaledReLU(initial, trainable=self.trainable, name=name)(x)

    def linear(self, x, name: str, units: int, use_bias: bool = False):
        """A linear layer, quantized if it is one of the quantized layers."""
        draw = UnitNorm(keras.initializers.RandomNormal(seed=self._next_seed()))
        common = self._common(name)
        return QuantDense(units, kernel_initializer=draw, use_bias=use_bias, **common)(x)

    def batch_norm(self, x, name: str):
        """Batch normalisation: momentum 0.99, epsilon 0.001 (docs/original.md, Networks)."""
        return BatchNorm(momentum=0.99, epsilon=1e-3, trainable=self.trainable, name=name)(x)

    def position_bias(self, x, name: str):
        """A bias per position and channel."""
        return PositionBias(trainable=self.trainable, name=name)(x)

    def max_pool(self, x, name: str, padding: str):
        """The maximum of windows of 3 at steps of 2."""
        return keras.layers.MaxPooling2D(3, 2, padding, name=name)(x)

    def average_pool(self, x, name: str):
        """The average of windows of 3 at steps of 2, without padding."""
        return keras.layers.AveragePooling2D(3, 2, "valid", name=name)(x)

    def add(self, tensors, name: str):
        """The sum of tensors of one shape."""
        return keras.layers.Add(name=name)(list(tensors))

    def flatten(self, x):
        """The values of [height, width, channels] in a row."""
        return keras.layers.Flatten(name="flatten")(x)

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
        self._unused.discard(name)
        bits = self._precisions.get(name, FULL)
        return dict(
            name=name,
            input_quantizer=activation_quantizer(bits.activation_bits, self._stochastic_rounding),
            kernel_quantizer=weight_quantizer(bits.weight_bits, self._stochastic_rounding),
            trainable=self.trainable,
        )
