"""Quantized Keras layers: what they compute, cache, differentiate and remember of themselves."""

import json

import numpy as np
import pytest

from empir.errors import EmpirError
from empir.nn.layers import (
    CUSTOM_OBJECTS,
    BatchNorm,
    PositionBias,
    QuantConv2D,
    QuantDense,
    Softmax,
    UnitNorm,
    quantize_once,
)
from empir.nn.quantizers import DoReFaActivations, DoReFaWeights
from empir.runtime import keras, tf

IMAGES = (2, 7, 8, 3)
VECTORS = (4, 6)

#: Layer class, what it replaces, input shape and the arguments that shape its output.
LAYERS = [
    (QuantConv2D, keras.layers.Conv2D, IMAGES, dict(filters=5, kernel_size=3)),
    (QuantConv2D, keras.layers.Conv2D, IMAGES, dict(filters=4, kernel_size=(3, 2), strides=2)),
    (QuantConv2D, keras.layers.Conv2D, IMAGES, dict(filters=5, kernel_size=4, padding="same")),
    (QuantConv2D, keras.layers.Conv2D, IMAGES, dict(filters=2, kernel_size=2, dilation_rate=2)),
    (QuantConv2D, keras.layers.Conv2D, IMAGES, dict(filters=5, kernel_size=3, use_bias=False)),
    (QuantConv2D, keras.layers.Conv2D, IMAGES, dict(filters=5, kernel_size=3, activation="relu")),
    (QuantDense, keras.layers.Dense, VECTORS, dict(units=3)),
    (QuantDense, keras.layers.Dense, VECTORS, dict(units=3, use_bias=False, activation="tanh")),
]
#: One of each, enough where the arguments do not matter.
ONE_OF_EACH = [LAYERS[0], LAYERS[-2]]

BIASES = dict(bias_initializer="random_uniform")


def uniform(random, shape):
    """Inputs a little beyond [0, 1], so that the activation quantizer has something to clip."""
    return random.uniform(-0.2, 1.2, shape).astype(np.float32)


def built(layer, shape):
    """The layer's output and the placeholder that it reads."""
    x = tf.placeholder(tf.float32, (None,) + shape[1:])
    return layer(x), x


def initialize(session):
    session.run(tf.global_variables_initializer())


# What they compute


@pytest.mark.parametrize("layer_class, keras_class, shape, options", LAYERS)
def test_without_quantizers_they_equal_the_keras_layers(
    layer_class, keras_class, shape, options, session, random
):
    layer, plain = layer_class(**options, **BIASES), keras_class(**options)
    ours, x = built(layer, shape)
    theirs = plain(x)
    initialize(session)
    plain.set_weights(layer.get_weights())
    ours, theirs = session.run([ours, theirs], {x: uniform(random, shape)})
    # The same operations; TensorFlow may fuse them differently: float32 sums of at most 48 terms.
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer_class, keras_class, shape, options", LAYERS)
@pytest.mark.parametrize(
    "input_bits, kernel_bits, trainable",
    [(4, 2, True), (4, 2, False), (None, 1, False), (3, None, True)],
)
def test_with_quantizers_they_multiply_the_quantized_tensors(
    input_bits, kernel_bits, layer_class, keras_class, shape, options, trainable, session, random
):
    quantize_input = DoReFaActivations(input_bits) if input_bits else None
    quantize_kernel = DoReFaWeights(kernel_bits) if kernel_bits else None
    layer = layer_class(
        input_quantizer=quantize_input,
        kernel_quantizer=quantize_kernel,
        trainable=trainable,
        **options,
        **BIASES,
    )
    plain = keras_class(**options)
    ours, x = built(layer, shape)
    theirs = plain(quantize_input(x) if quantize_input else x)
    initialize(session)
    quantize_once([keras.Sequential([layer])], session)
    kernel, *bias = layer.get_weights()
    if quantize_kernel:
        kernel = session.run(quantize_kernel(tf.constant(kernel)))
    plain.set_weights([kernel] + bias)
    ours, theirs = session.run([ours, theirs], {x: uniform(random, shape)})
    # As above, and the levels are known to one ulp.
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


# Latent weights, cached kernels


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("layer_class, _, shape, options", ONE_OF_EACH)
def test_a_forward_pass_leaves_the_latent_weights_alone(
    layer_class, _, shape, options, trainable, session, random
):
    layer = layer_class(kernel_quantizer=DoReFaWeights(1), trainable=trainable, **options)
    y, x = built(layer, shape)
    initialize(session)
    quantize_once([keras.Sequential([layer])], session)
    before = layer.get_weights()
    session.run(y, {x: uniform(random, shape)})
    for was, value in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(was, value)
    assert len(np.unique(before[0])) > 2  # latent, not the two levels of one bit


def forward_before_and_after_new_weights(layer, shape, session, random):
    """Outputs for one input: at first, after loading other weights, after `quantize_once`."""
    y, x = built(layer, shape)
    feed = {x: uniform(random, shape)}
    initialize(session)
    model = keras.Sequential([layer])
    quantize_once([model], session)
    outputs = [session.run(y, feed)]
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    outputs.append(session.run(y, feed))
    quantize_once([model], session)
    outputs.append(session.run(y, feed))
    return outputs


@pytest.mark.parametrize("layer_class, _, shape, options", ONE_OF_EACH)
def test_frozen_layers_see_new_weights_when_quantized_again(
    layer_class, _, shape, options, session, random
):
    options = dict(options, use_bias=False, trainable=False)
    layer = layer_class(kernel_quantizer=DoReFaWeights(2), **options)
    first, stale, fresh = forward_before_and_after_new_weights(layer, shape, session, random)
    np.testing.assert_array_equal(first, stale)
    assert np.abs(first - fresh).max() > 0.1


@pytest.mark.parametrize("quantizer, trainable", [(DoReFaWeights(2), True), (None, False)])
@pytest.mark.parametrize("layer_class, _, shape, options", ONE_OF_EACH)
def test_other_layers_see_new_weights_at_once(
    layer_class, _, shape, options, quantizer, trainable, session, random
):
    options = dict(options, use_bias=False, trainable=trainable)
    layer = layer_class(kernel_quantizer=quantizer, **options)
    first, second, third = forward_before_and_after_new_weights(layer, shape, session, random)
    assert layer.cached_kernel is None
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(second, third)


def test_a_frozen_layer_fails_until_quantized_once(session, random):
    layer = QuantDense(3, kernel_quantizer=DoReFaWeights(2), trainable=False)
    y, x = built(layer, VECTORS)
    initialize(session)
    session.run(tf.local_variables_initializer())
    with pytest.raises(tf.errors.FailedPreconditionError, match="quantized_kernel"):
        session.run(y, {x: uniform(random, VECTORS)})


def test_cached_kernels_are_no_weights(session):
    layer = QuantDense(3, use_bias=False, kernel_quantizer=DoReFaWeights(2), trainable=False)
    built(layer, VECTORS)
    assert layer.weights == [layer.kernel]
    assert layer.trainable_weights == []
    assert tf.global_variables() == [layer.kernel]
    assert tf.local_variables() == []
    assert isinstance(layer.cached_kernel, tf.Variable)


def test_kernels_are_quantized_by_one_operation_of_the_graph(session):
    """For each other operation intel-tensorflow would look for oneDNN's kernels, which is slow."""
    layer = QuantDense(3, use_bias=False, kernel_quantizer=DoReFaWeights(2), trainable=False)
    built(layer, VECTORS)
    initialize(session)
    metadata = tf.RunMetadata()
    options = tf.RunOptions(output_partition_graphs=True)
    session.run(layer.quantize, options=options, run_metadata=metadata)
    nodes = [node.op for graph in metadata.partition_graphs for node in graph.node]
    assert len(nodes) <= 6 and "Tanh" not in nodes, nodes
    expected = session.run(layer.kernel_quantizer(layer.kernel))
    np.testing.assert_array_equal(session.run(layer.cached_kernel), expected)


def test_kernels_are_kept_without_conditions(session):
    """TensorFlow adds ten operations to each first value that is computed of another variable."""
    layer = QuantDense(3, use_bias=False, kernel_quantizer=DoReFaWeights(2), trainable=False)
    built(layer, VECTORS)
    assert "Switch" not in {op.type for op in session.graph.get_operations()}
    tf.Variable(layer.kernel + 1)
    assert "Switch" in {op.type for op in session.graph.get_operations()}


# Stochastic kernels


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("layer_class, _, shape, options", ONE_OF_EACH)
def test_stochastic_kernels_are_drawn_in_every_run(
    layer_class, _, shape, options, trainable, session, random
):
    layer = layer_class(kernel_quantizer=DoReFaWeights(1, True), trainable=trainable, **options)
    y, x = built(layer, shape)
    feed = {x: uniform(random, shape)}
    initialize(session)
    quantize_once([keras.Sequential([layer])], session)
    assert layer.cached_kernel is None
    assert (session.run(y, feed) != session.run(y, feed)).any()


def test_stochastic_kernels_are_drawn_for_every_use_in_a_graph(session, random):
    layer = QuantDense(3, kernel_quantizer=DoReFaWeights(1, True))
    y, x = built(layer, VECTORS)
    initialize(session)
    first, second = session.run([y, layer.call(x)], {x: uniform(random, VECTORS)})
    assert (first != second).any()


# Gradients


@pytest.mark.slow
@pytest.mark.parametrize("layer_class, keras_class, shape, options", LAYERS)
def test_the_gradient_reaches_latent_kernel_and_input_through_the_quantizers(
    layer_class, keras_class, shape, options, session, random
):
    quantize_input, quantize_kernel = DoReFaActivations(3), DoReFaWeights(2)
    layer = layer_class(
        input_quantizer=quantize_input, kernel_quantizer=quantize_kernel, **options, **BIASES
    )
    plain = keras_class(**options)
    y, x = built(layer, shape)
    quantized = quantize_input(x)
    reference = plain(quantized)
    initialize(session)
    levels = session.run(quantize_kernel(layer.kernel))
    plain.set_weights([levels] + layer.get_weights()[1:])
    feed = {x: uniform(random, shape)}
    upstream = tf.constant(random.normal(size=session.run(y, feed).shape), tf.float32)

    ours = tf.gradients(y, [layer.kernel, x], upstream)
    at_levels, at_quantized = tf.gradients(reference, [plain.kernel, quantized], upstream)
    chained = [
        tf.gradients(quantize_kernel(layer.kernel), layer.kernel, at_levels)[0],
        tf.gradients(quantized, x, at_quantized)[0],
    ]
    for mine, expected in zip(session.run(ours, feed), session.run(chained, feed)):
        assert np.abs(mine).max() > 0.01
        # float32 sums of up to 100 terms, differently fused and ordered.
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4)


def test_a_step_against_the_gradient_lowers_the_loss(session, random):
    layer = QuantDense(3, kernel_quantizer=DoReFaWeights(4))
    y, x = built(layer, VECTORS)
    loss = tf.reduce_mean(tf.square(y - 0.3))
    step = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    initialize(session)
    feed = {x: uniform(random, VECTORS)}
    before = session.run(loss, feed)
    for _ in range(20):
        session.run(step, feed)
    assert session.run(loss, feed) < 0.5 * before


def test_no_gradient_reaches_the_latent_kernel_of_a_frozen_layer(session):
    layer = QuantDense(3, kernel_quantizer=DoReFaWeights(2), trainable=False)
    y, x = built(layer, VECTORS)
    assert tf.gradients(y, layer.kernel) == [None]
    assert tf.gradients(y, x) != [None]


# Initializer and softmax


@pytest.mark.parametrize("shape", [(8, 8, 1, 4), (3, 3, 2, 5), (128, 10)])
def test_unit_norm_scales_every_output_units_draw_to_norm_one(shape, session):
    draw = keras.initializers.TruncatedNormal(stddev=0.1, seed=3)
    scaled, plain = session.run([UnitNorm(draw)(shape), draw(shape)])
    norms = np.sqrt((plain**2).sum(axis=tuple(range(len(shape) - 1)), dtype=np.float64))
    # The 1e-7 beside sums of squares of at least 0.1, and float32.
    np.testing.assert_allclose(scaled, plain / norms, rtol=2e-6)


def test_unit_norm_of_zeros_is_zero(session):
    np.testing.assert_array_equal(session.run(UnitNorm("zeros")((5, 2))), 0)


@pytest.mark.parametrize("temperature", [1.0, 0.25, 100.0])
def test_softmax_multiplies_the_logits_by_its_temperature(temperature, session, random):
    logits = random.normal(size=(5, 4)).astype(np.float32)
    probs = session.run(Softmax(temperature)(tf.constant(logits)))
    scaled = temperature * logits.astype(np.float64)
    expected = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    # float32 rounds 100 logits of size 3 by up to 300 * 2^-24, which the exponential passes on.
    np.testing.assert_allclose(probs, expected, rtol=1e-4, atol=1e-7)


# Configurations


def small_model():
    """Both layers with all quantizers, the initializer and the softmax."""
    return keras.Sequential(
        [
            QuantConv2D(
                4,
                3,
                input_quantizer=DoReFaActivations(3),
                kernel_quantizer=DoReFaWeights(2),
                kernel_initializer=UnitNorm(keras.initializers.TruncatedNormal(seed=1)),
                input_shape=IMAGES[1:],
                name="conv",
            ),
            keras.layers.Flatten(),
            QuantDense(
                5,
                input_quantizer=DoReFaActivations(4),
                kernel_quantizer=DoReFaWeights(5),
                name="logits",
            ),
            Softmax(2.0, name="probs"),
        ]
    )


def quantizers(model):
    """Per quantized layer, the classes and arguments of its quantizers."""
    return [
        (type(q), q.get_config())
        for layer in model.layers
        if hasattr(layer, "kernel_quantizer")
        for q in (layer.input_quantizer, layer.kernel_quantizer)
    ]


def test_a_configuration_is_plain_data(session):
    json.dumps(small_model().get_config())


def test_a_layer_without_quantizers_is_made_again_from_its_config(session):
    layer = QuantConv2D(4, 3, strides=2, use_bias=False, name="conv")
    copy = QuantConv2D.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.input_quantizer is None and copy.kernel_quantizer is None


@pytest.mark.parametrize("layer_class, _, shape, options", ONE_OF_EACH)
def test_a_layer_is_made_again_with_its_quantizers(layer_class, _, shape, options, session):
    layer = layer_class(
        input_quantizer=DoReFaActivations(3), kernel_quantizer=DoReFaWeights(2, True, 5), **options
    )
    with keras.utils.CustomObjectScope(CUSTOM_OBJECTS):
        copy = layer_class.from_config(layer.get_config())
    assert not isinstance(copy.kernel_quantizer, dict)
    assert quantizers(keras.Sequential([copy])) == quantizers(keras.Sequential([layer]))


def test_a_model_is_made_again_with_its_quantizers(session):
    model = small_model()
    copy = keras.Sequential.from_config(model.get_config(), custom_objects=CUSTOM_OBJECTS)
    assert quantizers(copy) == quantizers(model)
    assert copy.get_config() == model.get_config()


def test_a_model_is_made_again_from_json(session):
    model = small_model()
    copy = keras.models.model_from_json(model.to_json(), custom_objects=CUSTOM_OBJECTS)
    assert quantizers(copy) == quantizers(model)


def test_a_saved_model_computes_the_same_when_loaded(session, random, tmp_path):
    path = str(tmp_path / "model.h5")
    model = small_model()
    initialize(session)
    model.save(path)
    copy = keras.models.load_model(path, custom_objects=CUSTOM_OBJECTS)
    images = uniform(random, IMAGES)
    np.testing.assert_array_equal(copy.predict(images), model.predict(images))


@pytest.mark.parametrize("layer", [Softmax(), Softmax(3.0, name="probs")])
def test_softmax_is_made_again_from_its_config(layer):
    copy = Softmax.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.temperature == layer.temperature


def test_unit_norm_is_made_again_from_its_config(session):
    initializer = UnitNorm(keras.initializers.TruncatedNormal(stddev=0.3, seed=3))
    copy = keras.initializers.deserialize(
        keras.initializers.serialize(initializer), custom_objects=CUSTOM_OBJECTS
    )
    first, second = session.run([initializer((4, 3)), copy((4, 3))])
    np.testing.assert_array_equal(first, second)


# Groups, biases per position, batch normalisation


@pytest.mark.parametrize("bits", [None, 2])
@pytest.mark.parametrize("trainable", [True, False])
def test_groups_are_convolutions_of_parts_with_a_kernel_quantized_as_one(
    bits, trainable, session, random
):
    quantizer = DoReFaWeights(bits) if bits else None
    layer = QuantConv2D(
        6, 3, groups=2, kernel_quantizer=quantizer, use_bias=False, trainable=trainable
    )
    shape = (2, 7, 8, 4)
    y, x = built(layer, shape)
    assert layer.kernel.shape.as_list() == [3, 3, 2, 6] and y.shape.as_list() == [None, 5, 6, 6]
    initialize(session)
    quantize_once([keras.Sequential([layer])], session)
    images = uniform(random, shape)
    kernel = layer.get_weights()[0]
    if bits:
        kernel = session.run(quantizer(tf.constant(kernel)))
    parts = []
    for i in range(2):
        part = tf.constant(images[..., 2 * i : 2 * i + 2])
        part_kernel = tf.constant(kernel[..., 3 * i : 3 * i + 3])
        parts.append(session.run(tf.nn.conv2d(part, part_kernel, 1, "VALID")))
    found = session.run(y, {x: images})
    # The same float32 sums of 18 terms.
    np.testing.assert_allclose(found, np.concatenate(parts, -1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("groups, channels, filters", [(2, 3, 4), (2, 4, 3), (0, 4, 4)])
def test_groups_must_divide_channels_and_filters(groups, channels, filters, session):
    with pytest.raises(EmpirError, match="groups=%d does not divide" % groups):
        built(QuantConv2D(filters, 3, groups=groups), (2, 7, 8, channels))


def test_a_position_bias_has_a_value_per_position_and_channel(session, random):
    layer = PositionBias()
    y, x = built(layer, IMAGES)
    initialize(session)
    assert [w.shape for w in layer.get_weights()] == [(1,) + IMAGES[1:]]
    images, bias = uniform(random, IMAGES), uniform(random, (1,) + IMAGES[1:])
    np.testing.assert_array_equal(session.run(y, {x: images}), images)
    layer.set_weights([bias])
    np.testing.assert_array_equal(session.run(y, {x: images}), images + bias)


@pytest.mark.parametrize("shape", [IMAGES, VECTORS])
def test_frozen_batch_normalisation_uses_the_moving_statistics_only(shape, session, random):
    layer = BatchNorm(momentum=0.99, epsilon=1e-3, trainable=False)
    y, x = built(layer, shape)
    values = [random.uniform(0.5, 1.5, shape[-1]).astype(np.float32) for _ in range(4)]
    initialize(session)
    layer.set_weights(values)
    gamma, beta, mean, variance = values
    inputs = uniform(random, shape)
    expected = gamma * (inputs - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(session.run(y, {x: inputs}), expected, rtol=1e-5, atol=1e-5)
    # Nothing to feed: the learning phase is not part of the graph.
    assert not any("learning_phase" in op.name for op in tf.get_default_graph().get_operations())
    assert layer.updates == []


def test_trainable_batch_normalisation_follows_the_learning_phase(session, random):
    layer = BatchNorm(momentum=0.99, epsilon=1e-3)
    y, x = built(layer, VECTORS)
    initialize(session)
    inputs = uniform(random, VECTORS)
    normalised = session.run(y, {x: inputs, keras.backend.learning_phase(): 1})
    expected = (inputs - inputs.mean(0)) / np.sqrt(inputs.var(0) + 1e-3)
    np.testing.assert_allclose(normalised, expected, rtol=1e-4, atol=1e-5)
    still = session.run(y, {x: inputs, keras.backend.learning_phase(): 0})
    np.testing.assert_allclose(still, inputs / np.sqrt(1 + 1e-3), rtol=1e-5)
    assert len(layer.updates) == 2
