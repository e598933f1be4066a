"""A network as attacks run it: the function that its layers define, faster.

`Member.fprop` calls the layers one by one, and is how the networks are to be read. Attacks run the
same network forward and backward hundreds of times, and need the gradient with respect to the image
alone. An `Engine` therefore

  - computes convolutions in the formulations of `empir.fast.convolutions`, and leaves images in
    blocks of pixels from one strided convolution to the next;
  - quantizes a rectifier's input in one go with it (`DoReFaActivations.rectified`);
  - rearranges kernels once per session, like `layers.quantize_once`.

Its logits and their gradients with respect to the image equal the layers' up to the rounding of
float32 sums; batch normalisation is by the moving statistics. `engine_for` decides which networks
have an engine.
"""

from typing import Optional

import numpy as np

from empir import runtime
from empir.errors import EmpirError
from empir.fast.convolutions import Axis, Blocked, MatrixProduct, SubPixel
from empir.nn.cached import computed_once
from empir.nn.layers import (
    BatchNorm,
    PositionBias,
    QuantConv2D,
    QuantDense,
    ScaledReLU,
    Softmax,
    draws,
    layers_of,
)
from empir.runtime import keras, tf


class Engine:
    """Logits of a network, for the gradient with respect to its input.

    Args:
      model: a Keras model of layers one after another, with a layer "logits" (`empir.nn`). The
        kernels of layers with `trainable=False` are rearranged when `rearrange_once` is called,
        those of others in every session call, outside of loops.

    Attributes:
      rearranging: operations that rearrange the kernels that the session holds now.
    """

    def __init__(self, model):
        self.model = model
        self.rearranging = []
        layers = layers_of(model)
        names = [layer.name for layer in layers]
        layers = layers[: names.index("logits") + 1]
        formulations = _formulations(layers)
        self._steps = [self._step(layer, how) for layer, how in zip(layers, formulations)]

    def __call__(self, x):
        """Logits, float32 [n, classes], of images [n, height, width, channels]."""
        flow = _Flow(x)
        with tf.get_default_graph().gradient_override_map(_INPUT_GRADIENTS):
            for step in self._steps:
                step(flow)
            return flow.take()

    def _step(self, layer, formulation):
        if _is_rectifier(layer):
            return _Flow.rectify
        if isinstance(layer, keras.layers.Flatten):
            return lambda flow: flow.reshape(_flatten)
        if isinstance(layer, BatchNorm):
            return lambda flow: flow.set(layer.call(flow.take(), training=False))
        if not isinstance(layer, (QuantConv2D, QuantDense)):
            return lambda flow: flow.set(layer.call(flow.take()))
        multiply, kernel = layer.multiply, lambda: layer.quantized_kernel
        if formulation is not None:
            multiply, kernel = formulation, self._rearranged(layer, formulation)
        in_block = getattr(formulation, "in_block", 1)
        out_block = getattr(formulation, "out_block", 1)

        def step(flow):
            x = flow.take(layer.input_quantizer, in_block)
            flow.set(layer.finish(multiply(x, kernel())), out_block)

        return step

    def _rearranged(self, layer, formulation):
        """A function that returns the layer's kernel as its formulation wants it."""
        kernel = tf.convert_to_tensor(layer.quantized_kernel)
        if layer.trainable:
            tensors = formulation.rearrange(kernel)
            return lambda: tensors
        variables, step = computed_once(formulation.rearrange, kernel, "rearranged_kernel")
        self.rearranging.append(step)
        return lambda: variables


def rearrange_once(engines, session):
    """Rearrange the kernels that the session holds now, after `layers.quantize_once`."""
    steps = [step for engine in engines for step in engine.rearranging]
    if steps:
        session.run(steps)


#: Layers that an engine computes as they are, or faster.
KNOWN_LAYERS = (
    BatchNorm,
    PositionBias,
    QuantConv2D,
    QuantDense,
    ScaledReLU,
    Softmax,
    keras.layers.Activation,
    keras.layers.AveragePooling2D,
    keras.layers.Flatten,
    keras.layers.MaxPooling2D,
)


def engine_for(model, wanted: Optional[bool] = None) -> Optional[Engine]:
    """The engine that computes a network for attacks; None = its layers are called one by one.

    This is the one place that decides it, for networks that are evaluated and for those that are
    attacked while they are trained.

    Args:
      model: as `Engine` takes it.
      wanted: True = an engine, False = none. None = an engine unless there is a GPU, the network
        draws at random, or it has branches or a layer that is not one of `KNOWN_LAYERS`.

    Raises:
      EmpirError: if an engine is wanted of a network with branches or other layers.
    """
    if wanted is False or wanted is None and (draws(model) or runtime.gpus()):
        return None
    layers = layers_of(model)
    chain = all(isinstance(layer, KNOWN_LAYERS) for layer in layers) and all(
        layer.input is before.output for before, layer in zip(layers, layers[1:])
    )
    if chain:
        return Engine(model)
    if wanted:
        raise EmpirError(
            f"{model.name} has branches or layers that the engine does not compute: leave out "
            "--engine (from Python engine=True)"
        )
    return None


class _Flow:
    """The tensor between two layers, and what is still to be done to it.

    Attributes:
      block: side of the blocks of pixels that are channels.
      rectified: whether a rectifier is due.
    """

    def __init__(self, x):
        self.set(x)

    def set(self, x, block=1):
        """Put a layer's output, in blocks of that side."""
        self._x, self.block, self.rectified = x, block, False

    def rectify(self):
        """Note a rectifier."""
        self.rectified = True

    def reshape(self, function):
        """Apply a function that moves values only."""
        self._x = function(self._in_blocks(1))

    def take(self, quantizer=None, block=1):
        """The tensor in blocks of that side, rectified if that is due, then quantized."""
        x = self._in_blocks(block)
        if quantizer is not None:
            return quantizer.rectified(x) if self.rectified else quantizer(x)
        return tf.nn.relu(x) if self.rectified else x

    def _in_blocks(self, block):
        if self.block != block:
            if self.block > 1:
                self._x = tf.depth_to_space(self._x, self.block)
            if block > 1:
                self._x = tf.space_to_depth(self._x, block)
            self.block = block
        return self._x


#: Gradients of operations between what depends on the image, their first input, and a kernel:
#: TensorFlow's own add an operation for the kernel's gradient, which a function's graph keeps.
_INPUT_GRADIENTS = {"Conv2D": "EmpirConv2DInput", "MatMul": "EmpirMatMulInput"}


@tf.RegisterGradient(_INPUT_GRADIENTS["Conv2D"])
def _convolution_input_gradient(op, gradient):
    image, kernel = op.inputs
    given = {
        name: op.get_attr(name)
        for name in ("strides", "padding", "data_format", "dilations", "explicit_paddings")
    }
    at_image = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(image), filter=kernel, out_backprop=gradient, **given
    )
    return at_image, None


@tf.RegisterGradient(_INPUT_GRADIENTS["MatMul"])
def _product_input_gradient(op, gradient):
    if op.get_attr("transpose_a") or op.get_attr("transpose_b"):
        raise NotImplementedError("no layer's product is of transposed matrices")
    return tf.matmul(gradient, op.inputs[1], transpose_b=True), None


def _flatten(x):
    """As Keras' layer, whose size of an image is computed in the graph."""
    size = int(np.prod(x.shape.as_list()[1:]))
    if x.op.type == "Reshape" and x.op.inputs[0].shape.as_list()[1:] == [size]:
        return x.op.inputs[0]  # it was flat, as the output of a `MatrixProduct`
    return tf.reshape(x, (-1, size))


def _is_rectifier(layer):
    return isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.relu


def _formulations(layers):
    """How to compute each layer; None = the plain way.

    From the last layer to the first, as a convolution's output should be in the blocks that the
    next one reads. Only rectifiers may stand between the two. Kernels that are drawn at random stay
    as they are: oneDNN's pass aborts the process on a graph that rearranges what it draws.
    """
    wanted, formulations = 1, []
    for layer in reversed(layers):
        faster = isinstance(layer, QuantConv2D) and layer.groups == 1 and not layer.draws_kernel
        formulations.append(_formulation(layer, wanted) if faster else None)
        if not _is_rectifier(layer):
            wanted = getattr(formulations[-1], "in_block", 1)
    return formulations[::-1]


def _formulation(layer, wanted):
    """How to compute a convolution whose output should be in blocks of the wanted side."""
    if layer.dilation_rate != (1, 1):
        return None
    axes = tuple(
        Axis.of(size, kernel, stride, layer.padding)
        for size, kernel, stride in zip(layer.input_shape[1:3], layer.kernel_size, layer.strides)
    )
    if MatrixProduct.fits(axes):
        return MatrixProduct()
    if layer.strides != (1, 1):
        by_channel = layer.use_bias or layer.activation is not keras.activations.linear
        sides = [1] if by_channel else [wanted, 1]
        return next((Blocked(axes, side) for side in sides if Blocked.fits(axes, side)), None)
    channels = layer.input_shape[-1]
    return SubPixel(axes, channels) if SubPixel.fits(axes, channels) else None
