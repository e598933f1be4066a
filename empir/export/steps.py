"""A network as plain data: its steps from images to logits, with NumPy arrays for weights.

`steps_of` reads them off a Keras model of this package's and Keras' own layers. What computes the
network without TensorFlow follows the steps: the exact arithmetic of `empir.export.integer` and the
graphs of `empir.export.onnx_graph`.

A layer becomes one step or several. A quantized layer quantizes its input (`Quantize`) and
multiplies it with its kernel (`Multiply`). A bias and a batch normalisation after it are one
`Affine`, a factor and an offset for each channel, computed in float64:

    factor = gamma / sqrt(variance + epsilon)
    offset = beta + (bias - mean) * factor
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from empir.errors import EmpirError
from empir.nn.layers import (
    BatchNorm,
    PositionBias,
    QuantConv2D,
    QuantDense,
    ScaledReLU,
    layers_of,
    quantizers_of,
)
from empir.nn.quantizers import DoReFaActivations, DoReFaWeights
from empir.runtime import keras

#: The name of the images, which the first step reads.
IMAGES = "images"


@dataclass(frozen=True)
class Step:
    """An operation. Values are [n, height, width, channels] or [n, channels].

    Attributes:
      name: of its result; unique in a network.
      inputs: names of the results that it reads.
    """

    name: str
    inputs: Tuple[str, ...]


@dataclass(frozen=True)
class Quantize(Step):
    """x -> round(n clip(x, 0, 1)), an integer 0..n, halves to even; the value it stands for is that
    over n.

    Attributes:
      steps: n = 2^bits - 1.
    """

    steps: int


class Window(NamedTuple):
    """How a kernel or a pool goes over an image.

    Attributes:
      size: [height, width] of the window.
      strides: [vertical, horizontal].
      pads: pixels added before and after: ((top, bottom), (left, right)).
      dilation: [vertical, horizontal] distance of the window's pixels.
    """

    size: Tuple[int, int]
    strides: Tuple[int, int]
    pads: Tuple[Tuple[int, int], Tuple[int, int]]
    dilation: Tuple[int, int] = (1, 1)

    @property
    def is_padded(self) -> bool:
        """Whether any pixels are added."""
        return any(map(any, self.pads))

    def outputs(self, size) -> Tuple[int, int]:
        """[height, width] of what it gives of an input of a [height, width]."""
        reach = [(taps - 1) * step + 1 for taps, step in zip(self.size, self.dilation)]
        axes = zip(size, self.pads, reach, self.strides)
        rows, columns = ((n + sum(pad) - taps) // stride + 1 for n, pad, taps, stride in axes)
        return rows, columns


@dataclass(frozen=True, eq=False)
class Multiply(Step):
    """A convolution, or without a window a matrix product.

    Attributes:
      kernel: [height, width, in / groups, out] or [in, out], float32, as TensorFlow computes with
        it: quantized if the layer quantizes its weights.
      weight_steps: n = 2^bits - 1 of weights (2 j - n) / n; None = they are not quantized.
      window: None for a matrix product.
      groups: see `layers.QuantConv2D`.
    """

    kernel: np.ndarray
    weight_steps: Optional[int] = None
    window: Optional[Window] = None
    groups: int = 1

    @property
    def numerators(self) -> np.ndarray:
        """The odd integers 2 j - n of quantized weights, int64."""
        n = self.weight_steps
        levels = np.rint((self.kernel.astype(np.float64) * n + n) / 2)
        return 2 * levels.astype(np.int64) - n


@dataclass(frozen=True, eq=False)
class Affine(Step):
    """factor * x + offset; both float64 [channels], or [height, width, channels] of an offset per
    position."""

    factor: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True)
class Rectify(Step):
    """max(x, 0)."""


@dataclass(frozen=True)
class Pool(Step):
    """The maximum or the average of windows; padding counts in neither."""

    window: Window
    average: bool


@dataclass(frozen=True)
class Flatten(Step):
    """[n, height, width, channels] -> [n, height * width * channels]."""


@dataclass(frozen=True)
class Add(Step):
    """The sum of values of one shape."""


@dataclass(frozen=True)
class Network:
    """The steps of a network from float32 images to logits, in the order of computation.

    Attributes:
      steps: the last one's result are the logits.
      shapes: name of a result -> its shape without the batch; of `IMAGES` too.
    """

    steps: Tuple[Step, ...]
    shapes: Dict[str, Tuple[int, ...]]

    @property
    def logits(self) -> str:
        """Name of the last result."""
        return self.steps[-1].name

    def readers(self, name: str) -> List[Step]:
        """The steps that read a result."""
        return [step for step in self.steps if name in step.inputs]

    def source(self, name: str) -> Optional[Step]:
        """The step that makes a result; None of the images."""
        return next((step for step in self.steps if step.name == name), None)


def padding(padding: str, sizes, kernel, strides, dilation=(1, 1)):
    """TensorFlow's pads ((top, bottom), (left, right)) for "same" and "valid"."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    pads = []
    for size, taps, stride, distance in zip(sizes, kernel, strides, dilation):
        reach = (taps - 1) * distance + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def steps_of(model, arrays: Dict[str, np.ndarray], kernels: Dict[str, np.ndarray]) -> Network:
    """The steps of a Keras model up to its logits.

    Args:
      model: as of `Architecture.build`, or of Keras layers of the same kinds.
      arrays: its weights by the names of `empir.nn.weights`, such as "conv1/kernel".
      kernels: quantized kernels by the same names, of the layers that quantize them.

    Raises:
      EmpirError: for a layer of another kind, or one that draws at random; it names the layer.
    """
    reader = _Reader(arrays, kernels)
    layers = layers_of(model)
    while layers and _is_softmax(layers[-1]):
        layers.pop()
    reader.names[model.inputs[0]] = IMAGES
    reader.shapes[IMAGES] = tuple(model.input_shape[1:])
    for layer in layers:
        reader.read(layer)
    return Network(tuple(_joined(reader.steps)), reader.shapes)


def _is_softmax(layer):
    activation = getattr(layer, "activation", None)
    return isinstance(layer, keras.layers.Softmax) or (
        isinstance(layer, keras.layers.Activation) and activation is keras.activations.softmax
    )


def _refused(layer, reason):
    return EmpirError(f"the layer {layer.name} cannot be exported: {reason}")


@dataclass
class _Reader:
    """Makes the steps of one layer after the other."""

    arrays: Dict[str, np.ndarray]
    kernels: Dict[str, np.ndarray]
    steps: List[Step] = field(default_factory=list)
    shapes: Dict[str, Tuple[int, ...]] = field(default_factory=dict)
    names: Dict[Any, str] = field(default_factory=dict)  # Keras tensor -> name of a result

    def read(self, layer):
        """Append the steps of a layer."""
        make = _MAKERS.get(type(layer))
        if make is None:
            raise _refused(layer, f"it is a {type(layer).__name__}")
        try:
            tensors = layer.input
        except AttributeError:
            raise _refused(layer, "it is called twice")
        tensors = tensors if isinstance(tensors, list) else [tensors]
        inputs = tuple(self.names[tensor] for tensor in tensors)
        shape = tuple(keras.backend.int_shape(layer.output)[1:])
        if None in shape:
            raise _refused(layer, f"its shape is {shape}")
        shape = tuple(map(int, shape))
        if getattr(layer, "data_format", None) == "channels_first":
            raise _refused(layer, "it is channels_first")
        name = make(self, layer, inputs)
        self.names[layer.output] = name
        self.shapes[name] = shape

    def add(self, step: Step, shape=None) -> str:
        """Append a step; returns its name."""
        if not any(step.name == other.name for other in self.steps):
            self.steps.append(step)
        if shape is not None:
            self.shapes[step.name] = tuple(map(int, shape))
        return step.name

    def value(self, layer, name) -> np.ndarray:
        """A weight of a layer, float64."""
        return self.arrays[f"{layer.name}/{name}"].astype(np.float64)

    def nothing(self, layer, inputs):
        """A layer that changes nothing."""
        return inputs[0]

    def activation(self, layer, inputs):
        """A layer's activation: a rectifier, or none."""
        function = layer.activation
        if function is keras.activations.linear or function is None:
            return inputs[0]
        if function is not keras.activations.relu:
            raise _refused(layer, f"its activation is {getattr(function, '__name__', function)}")
        name = layer.name if isinstance(layer, keras.layers.Activation) else f"{layer.name}/relu"
        return self.add(Rectify(name, inputs), self.shapes[inputs[0]])

    def multiply(self, layer, inputs):
        """A convolution or a linear layer, with what it does before and after the product."""
        for quantizer in quantizers_of(layer):
            if getattr(quantizer, "stochastic", False):
                raise _refused(layer, f"its {type(quantizer).__name__} draws at random")
            if type(quantizer) not in (DoReFaActivations, DoReFaWeights, type(None)):
                raise _refused(layer, f"it has a {type(quantizer).__name__}")
        of_weights, of_inputs = quantizers_of(layer)
        x, shape = inputs[0], self.shapes[inputs[0]]
        if of_inputs is not None:
            steps = 2**of_inputs.bits - 1
            x = self.add(Quantize(f"{x}/levels{steps}", (x,), steps), shape)
        window = None
        if isinstance(layer, keras.layers.Conv2D):
            geometry = (layer.kernel_size, layer.strides, layer.dilation_rate)
            pads = padding(layer.padding, shape, *geometry)
            window = Window(*map(tuple, geometry[:2]), pads, tuple(layer.dilation_rate))
        name = f"{layer.name}/kernel"
        product = Multiply(
            layer.name,
            (x,),
            (self.arrays if of_weights is None else self.kernels)[name],
            None if of_weights is None else 2**of_weights.bits - 1,
            window,
            getattr(layer, "groups", 1),
        )
        outputs = keras.backend.int_shape(layer.output)[1:]
        x = self.add(product, outputs)
        if layer.use_bias:
            bias = self.value(layer, "bias")
            x = self.add(Affine(f"{layer.name}/bias", (x,), np.ones_like(bias), bias), outputs)
        return self.activation(layer, (x,))

    def normalize(self, layer, inputs):
        """Batch normalisation by the moving statistics."""
        if layer.axis not in (-1, len(self.shapes[inputs[0]])):
            raise _refused(layer, f"its axis is {layer.axis}")
        factor = 1 / np.sqrt(self.value(layer, "moving_variance") + layer.epsilon)
        if layer.scale:
            factor = factor * self.value(layer, "gamma")
        offset = -self.value(layer, "moving_mean") * factor
        if layer.center:
            offset = offset + self.value(layer, "beta")
        return self.add(Affine(layer.name, inputs, factor, offset))

    def position_bias(self, layer, inputs):
        """A bias for each position."""
        bias = self.value(layer, "bias")[0]
        return self.add(Affine(layer.name, inputs, np.ones(bias.shape[-1]), bias))

    def scaled_rectifier(self, layer, inputs):
        """A rectifier times a factor."""
        shape = self.shapes[inputs[0]]
        x = self.add(Rectify(f"{layer.name}/relu", inputs), shape)
        factor = np.full(shape[-1], self.value(layer, "activation_scalar"))
        return self.add(Affine(layer.name, (x,), factor, np.zeros_like(factor)))

    def pool(self, layer, inputs):
        """A pool."""
        size, strides = tuple(layer.pool_size), tuple(layer.strides)
        pads = padding(layer.padding, self.shapes[inputs[0]], size, strides)
        average = isinstance(layer, keras.layers.AveragePooling2D)
        return self.add(Pool(layer.name, inputs, Window(size, strides, pads), average))

    def flatten(self, layer, inputs):
        """Values in a row."""
        return self.add(Flatten(layer.name, inputs))

    def sum(self, layer, inputs):
        """A sum."""
        return self.add(Add(layer.name, inputs))


#: How a layer of each kind becomes steps; subclasses are other kinds.
_MAKERS = {
    QuantConv2D: _Reader.multiply,
    QuantDense: _Reader.multiply,
    keras.layers.Conv2D: _Reader.multiply,
    keras.layers.Dense: _Reader.multiply,
    BatchNorm: _Reader.normalize,
    keras.layers.BatchNormalization: _Reader.normalize,
    PositionBias: _Reader.position_bias,
    ScaledReLU: _Reader.scaled_rectifier,
    keras.layers.Dropout: _Reader.nothing,
    keras.layers.Activation: _Reader.activation,
    keras.layers.MaxPooling2D: _Reader.pool,
    keras.layers.AveragePooling2D: _Reader.pool,
    keras.layers.Flatten: _Reader.flatten,
    keras.layers.Add: _Reader.sum,
}


def _joined(steps: Sequence[Step]) -> List[Step]:
    """The steps with each affine that follows another one joined to it, in float64.

    Not one of a bias per position, which a kernel's channels cannot take in.
    """
    joined: List[Step] = []
    for step in steps:
        before = joined[-1] if joined else None
        read = [name for other in steps for name in other.inputs]
        if (
            isinstance(step, Affine)
            and isinstance(before, Affine)
            and step.inputs == (before.name,)
            and read.count(before.name) == 1
            and before.offset.ndim == step.offset.ndim == 1
        ):
            factor = step.factor * before.factor
            offset = step.factor * before.offset + step.offset
            joined[-1] = Affine(step.name, before.inputs, factor, offset)
        else:
            joined.append(step)
    return joined
