"""A small network with every kind of layer, at any precision, with drawn weights."""

import numpy as np

from empir.export.steps import steps_of
from empir.nn import Architecture, weights
from empir.nn.layers import quantize_once
from empir.runtime import tf


def layers(build, x, f):
    """Branches, groups, strides, both pools with both paddings, normalisations and biases."""
    x = build.relu(build.conv(x, "conv1", f, 3, strides=2), "relu1")
    y = build.conv(x, "conv2", f, 3, groups=2)
    x = build.relu(build.add([x, y], "sum"), "relu2")
    x = build.conv(x, "conv3", 2 * f, 3)
    x = build.max_pool(build.batch_norm(x, "bn3"), "pool3", "same")
    x = build.conv(build.relu(x, "relu3"), "conv4", 2 * f, 2, padding="valid")
    x = build.average_pool(build.relu(x, "relu4"), "pool4")
    x = build.conv(x, "conv5", 2 * f, 2, padding="valid")
    x = build.relu(build.position_bias(x, "bias5"), "relu5")
    x = build.scaled_relu(build.linear(build.flatten(x), "fc6", 12, use_bias=True), "relu6", 0.7)
    x = build.relu(build.batch_norm(build.linear(x, "fc7", 9), "bn7"), "relu7")
    return build.linear(x, "logits", 5, use_bias=True)


QUANTIZED = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")

NETWORK = Architecture("Everything", layers, (25, 22, 3), 5, QUANTIZED, 4)


def weights_of(model, seed=0):
    """Weights for a model that use most levels: name -> float32 array."""
    random = np.random.RandomState(seed)
    arrays = {}
    for name, variable in weights(model).items():
        shape = variable.shape.as_list()
        if name.endswith("moving_variance"):
            value = random.uniform(0.5, 2, shape)
        elif len(shape) > 1:
            value = random.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
        else:
            value = random.normal(size=shape)  # factors of normalisations are of both signs
        arrays[name] = np.float32(value)
    return arrays


def drawn(precision, session):
    """The network at a precision in a session's graph, and its steps."""
    model = NETWORK.build(precision, trainable=False)
    arrays, variables = weights_of(model), weights(model)
    feeds = {variable.initializer.inputs[1]: arrays[name] for name, variable in variables.items()}
    session.run([variable.initializer for variable in variables.values()], feeds)
    quantize_once([model], session)
    kernels = {
        f"{layer.name}/kernel": layer.cached_kernel
        for layer in model.layers
        if getattr(layer, "cached_kernel", None) is not None
    }
    return model, steps_of(model, arrays, session.run(kernels))


def steps(precision):
    """The steps of the network at a precision, without a session."""
    with tf.Graph().as_default():
        model = NETWORK.build(precision)
    arrays, kernels = weights_of(model), {}
    for layer in model.layers:
        quantizer = getattr(layer, "kernel_quantizer", None)
        if quantizer is not None:
            n, t = 2**quantizer.bits - 1, np.tanh(arrays[f"{layer.name}/kernel"])
            levels = np.rint(n * (t / np.abs(t).max() / 2 + 0.5))
            kernels[f"{layer.name}/kernel"] = np.float32(2 * levels / n - 1)
    return steps_of(model, arrays, kernels)


def images(count):
    """float32 images in [0, 1], also 0 and 1."""
    values = np.random.RandomState(1).uniform(-0.1, 1.1, (count, *NETWORK.input_shape))
    return values.clip(0, 1).astype(np.float32)
