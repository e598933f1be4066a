"""Keras layers whose weights and inputs may be quantized; a quantizer of None = full precision.

The variable of a layer is always its latent float32 kernel, which is what checkpoints hold and
optimizers update. The quantized kernel is a tensor derived from it outside any loop, so that attack
loops capture it instead of computing it again in each iteration. In a layer with `trainable=False`
it is a variable in no collection: computed once per session, when `quantize_once` is called
after the weights are loaded.
"""

import contextlib
import functools

from empir.errors import EmpirError
from empir.nn.cached import computed_once
from empir.nn.quantizers import QUANTIZERS, DoReFaActivations
from empir.runtime import keras, tf

K = keras.backend


class _QuantizedKernel:
    """Mixin for Keras layers with a `kernel`: quantizers for it and for the layer's input."""

    def __init__(self, *args, input_quantizer=None, kernel_quantizer=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.input_quantizer = _quantizer(input_quantizer)
        self.kernel_quantizer = _quantizer(kernel_quantizer)
        self.cached_kernel = self.quantize = None
        self._derived = {}  # replica of a distribution strategy -> quantized kernel

    def build(self, input_shape):
        """Create the latent kernel and, if it is not trainable, its cached quantized value."""
        super().build(input_shape)
        quantizer = self.kernel_quantizer
        if quantizer is not None and not self.draws_kernel and not self.trainable:
            self.cached_kernel, self.quantize = computed_once(
                quantizer, tf.convert_to_tensor(self.kernel), "quantized_kernel"
            )

    @property
    def draws_kernel(self) -> bool:
        """Whether the quantized kernel is another at each access: its rounding is stochastic."""
        return self.kernel_quantizer is not None and self.kernel_quantizer.stochastic

    @property
    def quantized_kernel(self):
        """Kernel that `call` multiplies with; drawn at each access if rounding is stochastic."""
        if self.kernel_quantizer is None:
            return self.kernel
        if self.cached_kernel is not None:
            return self.cached_kernel
        if self.draws_kernel:
            return self.kernel_quantizer(self.kernel)
        key = _replica()
        if key not in self._derived:
            with tf.control_dependencies(None):  # outside of loops
                self._derived[key] = self.kernel_quantizer(self.kernel)
        return self._derived[key]

    def call(self, inputs):
        """Layer output for float32 inputs, quantized first if there is an input quantizer."""
        if self.input_quantizer is not None:
            inputs = self.input_quantizer(inputs)
        return self.finish(self.multiply(inputs, self.quantized_kernel))

    def finish(self, outputs):
        """Product plus bias, through the activation, if the layer has them."""
        if self.use_bias:
            outputs = K.bias_add(outputs, self.bias, data_format="channels_last")
        return outputs if self.activation is None else self.activation(outputs)

    def get_config(self):
        """Keras configuration, the quantizers' included."""
        config = super().get_config()
        config["input_quantizer"] = keras.utils.serialize_keras_object(self.input_quantizer)
        config["kernel_quantizer"] = keras.utils.serialize_keras_object(self.kernel_quantizer)
        return config


def _replica():
    """Number of the replica that the graph is being built for; None outside of replicas."""
    context = tf.distribute.get_replica_context()
    number = None if context is None else context.replica_id_in_sync_group
    return int(tf.get_static_value(number)) if tf.is_tensor(number) else number


def _quantizer(described):
    """A quantizer as given, or from the dict that a layer's configuration holds."""
    if isinstance(described, dict):
        return keras.utils.deserialize_keras_object(described, module_objects=QUANTIZERS)
    return described


class QuantConv2D(_QuantizedKernel, keras.layers.Conv2D):
    """`keras.layers.Conv2D` (channels last) with optional quantizers, and groups.

    Args:
      input_quantizer, kernel_quantizer: callables from `empir.nn.quantizers`, or None.
      groups: the input's and the output's channels are divided into this many parts, and each
        part of the output reads its part of the input. The kernel is quantized as one.
      Others as in Keras.

    Input [batch, height, width, channels], kernel [height, width, in / groups, out], float32.

    Raises:
      EmpirError: for data_format="channels_first", or channels that groups do not divide.
    """

    def __init__(self, *args, groups: int = 1, **kwargs):
        super().__init__(*args, **kwargs)
        self.groups = groups
        if self.data_format != "channels_last":
            raise EmpirError("data_format=%r: QuantConv2D is channels_last" % self.data_format)

    def build(self, input_shape):
        """Create the kernel and what is derived from it."""
        channels = input_shape[-1]
        if self.groups < 1 or channels % self.groups or self.filters % self.groups:
            raise EmpirError(
                "groups=%d does not divide %d input channels and %d filters"
                % (self.groups, channels, self.filters)
            )
        super().build(tuple(input_shape[:-1]) + (channels // self.groups,))
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})

    def multiply(self, inputs, kernel):
        """Convolution of quantized inputs and kernel."""
        if self.groups == 1:
            return self._convolve(inputs, kernel)
        parts = zip(tf.split(inputs, self.groups, -1), tf.split(kernel, self.groups, -1))
        return tf.concat([self._convolve(*part) for part in parts], -1)

    def _convolve(self, inputs, kernel):
        return K.conv2d(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
        )

    def get_config(self):
        """Keras configuration."""
        return dict(super().get_config(), groups=self.groups)


class QuantDense(_QuantizedKernel, keras.layers.Dense):
    """`keras.layers.Dense` with optional quantizers; input [batch, in], kernel [in, out]."""

    def multiply(self, inputs, kernel):
        """Matrix product of quantized inputs and kernel."""
        return K.dot(inputs, kernel)


class PositionBias(keras.layers.Layer):
    """Adds a bias per position and channel: [batch, h, w, c] + [1, h, w, c] (docs/original.md,
    Networks)."""

    def build(self, input_shape):
        """Create the bias, zeros."""
        self.bias = self.add_weight(
            name="bias", shape=(1,) + tuple(input_shape[1:]), initializer="zeros"
        )
        super().build(input_shape)

    def call(self, inputs):
        """Inputs plus bias."""
        return inputs + self.bias


class ScaledReLU(keras.layers.Layer):
    """A rectifier times one trainable factor, s * max(x, 0) (docs/original.md, Random weights).

    Args:
      initial: the factor's first value.
      Others as in Keras.
    """

    def __init__(self, initial: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        """Create the factor."""
        first = keras.initializers.Constant(self.initial)
        self.scale = self.add_weight(name="activation_scalar", shape=(), initializer=first)
        super().build(input_shape)

    def call(self, inputs):
        """Scaled rectified inputs, of any shape."""
        return self.scale * tf.nn.relu(inputs)

    def get_config(self):
        """Keras configuration."""
        return dict(super().get_config(), initial=self.initial)


class BatchNorm(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis, as `tf.layers` keeps its statistics.

    With `trainable=False` it always normalises by the moving statistics. Then its graph does not
    depend on Keras' learning phase, whose conditionals TensorFlow cannot differentiate inside the
    loops of attacks.

    Faithfulness: a moving statistic m becomes momentum * m + (1 - momentum) * batch statistic;
    Keras' own divides by 1 - momentum^t besides.
    """

    def call(self, inputs, training=None):
        """Normalised inputs, [batch, ..., channels]."""
        if not self.trainable or training in (0, False):
            return super().call(inputs, training=False)
        mean, variance = tf.nn.moments(inputs, list(range(len(inputs.shape) - 1)))
        moving = [(self.moving_mean, mean), (self.moving_variance, variance)]
        self.add_update(
            [m.assign_sub((1 - self.momentum) * (m - new)) for m, new in moving], inputs
        )
        normed = tf.nn.batch_normalization(
            inputs, mean, variance, self.beta, self.gamma, self.epsilon
        )
        still = super().call(inputs, training=False)
        return K.in_train_phase(normed, still, training=training)


class Softmax(keras.layers.Activation):
    """Probabilities softmax(temperature * logits), [batch, classes] (docs/original.md,
    Networks)."""

    def __init__(self, temperature: float = 1.0, **kwargs):
        kwargs.pop("activation", None)
        super().__init__("softmax", **kwargs)
        self.temperature = temperature

    def call(self, inputs):
        """Softmax of [batch, classes] logits."""
        return tf.nn.softmax(inputs if self.temperature == 1 else inputs * self.temperature)

    def get_config(self):
        """Keras configuration."""
        config = super().get_config()
        config["temperature"] = self.temperature
        return config

    @classmethod
    def from_config(cls, config):
        """The layer, or Keras' own of that name, which has an axis."""
        own = keras.layers.Softmax if "axis" in config else super()
        return own.from_config(config)


class UnitNorm(keras.initializers.Initializer):
    """Draws from another initializer, then scales each output unit's weights to L2 norm one.

    Faithfulness: the original's initial convolutions are normalised over (height, width, in), its
    linear layers over their inputs (docs/original.md, Networks).
    """

    def __init__(self, initializer):
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape, dtype=None):
        """Float32 tensor of `shape`, last axis = output units."""
        draw = self.initializer(shape, dtype=dtype)
        axes = list(range(len(shape) - 1))
        return draw / tf.sqrt(1e-7 + tf.reduce_sum(tf.square(draw), axes, keepdims=True))

    def get_config(self):
        """Keras configuration."""
        return {"initializer": keras.initializers.serialize(self.initializer)}

    @classmethod
    def from_config(cls, config):
        """The initializer, or Keras' constraint of that name, which has an axis."""
        return keras.constraints.UnitNorm(**config) if "axis" in config else cls(**config)


def layers_within(model):
    """All layers of a Keras model: also those of models in it, of wrappers and of recurrent cells.

    Yields each layer once, the outer ones first.
    """
    left, seen = [model], set()
    while left:
        layer = left.pop(0)
        if layer is None or id(layer) in seen:
            continue
        seen.add(id(layer))
        if layer is not model:
            yield layer
        left += getattr(layer, "layers", None) or getattr(layer, "cells", None) or []
        inner = ("layer", "forward_layer", "backward_layer", "cell")
        left += [getattr(layer, name, None) for name in inner]


def layers_of(model) -> list:
    """The layers of a Keras model in the order in which they are computed, without its input."""
    return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def draws(model) -> bool:
    """Whether a Keras model draws at random: it, or a layer, says so, or a quantizer does."""
    return any(
        getattr(part, "draws", False)
        or any(getattr(quantizer, "stochastic", False) for quantizer in quantizers_of(part))
        for part in [model, *layers_within(model)]
    )


def quantizers_of(layer) -> list:
    """A layer's quantizers of weights and of activations; None = it does not quantize these."""
    return [getattr(layer, name, None) for name in ("kernel_quantizer", "input_quantizer")]


def normalizations(model) -> list:
    """The layers of batch normalisation in a Keras model, those within it included."""
    kind = keras.layers.BatchNormalization
    return [layer for layer in layers_within(model) if isinstance(layer, kind)]


@contextlib.contextmanager
def fixed_statistics(model):
    """Within this context, calls of a model normalise by moving statistics, as in evaluation.

    Keras adds the updates of the statistics whatever the learning phase, and the functions that
    attacks run in cannot hold them.
    """
    layers = normalizations(model)
    for layer in layers:
        layer.call = functools.partial(layer.call, training=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


@contextlib.contextmanager
def with_quantizers(model, backward: str):
    """Within this context, calls of a model have that backward pass (`DoReFaActivations`)."""
    layers = [
        layer
        for layer in layers_within(model)
        if isinstance(getattr(layer, "input_quantizer", None), DoReFaActivations)
    ]
    before = [layer.input_quantizer for layer in layers]
    try:
        for layer in layers:
            layer.input_quantizer = layer.input_quantizer.with_backward(backward)
        yield
    finally:
        for layer, quantizer in zip(layers, before):
            layer.input_quantizer = quantizer


def quantize_once(models, session):
    """Compute the cached quantized kernels of models with `trainable=False` layers.

    To be called after their weights were initialized or loaded, and again if they change.
    """
    layers = [layer for model in models for layer in layers_within(model)]
    steps = [getattr(layer, "quantize", None) for layer in layers]
    steps = [step for step in steps if step is not None]
    if steps:
        session.run(steps)


#: For `keras.models.load_model(..., custom_objects=CUSTOM_OBJECTS)`.
CUSTOM_OBJECTS = {
    cls.__name__: cls
    for cls in (QuantConv2D, QuantDense, PositionBias, ScaledReLU, BatchNorm, Softmax, UnitNorm)
}
