"""Quantizers round the same whatever TensorFlow's graph optimizer (Grappler) makes of their graph.

Grappler assumes real arithmetic: it sums chains of additions in another order, joins constant
factors, and drops factors of 1. Rounding relies on float32 arithmetic, so every bit width is held
to a reference in NumPy's integers: each quantizer among operations that Grappler would like to
merge with it, and networks in every use. That its rewriting is harmless is known in two ways: by
those results, and by the operations that are left in the graph that Grappler returns.
"""

import json

import numpy as np
import pytest
from tensorflow.core.protobuf import rewriter_config_pb2
from tensorflow.python.grappler import tf_optimizer

from empir import runtime
from empir.attacks.base import as_function
from empir.data import Dataset
from empir.models.ensemble import Ensemble
from empir.models.member import member_from_arrays
from empir.nn import Architecture
from empir.nn.layers import CUSTOM_OBJECTS, QuantConv2D, QuantDense
from empir.nn.precision import Precision, per_layer
from empir.nn.quantizers import DoReFaActivations, DoReFaWeights, quantize_k
from empir.runtime import keras, tf
from empir.training import Settings, train
from empir.training.graph import Graph

pytestmark = pytest.mark.slow  # it builds many networks

BITS = tuple(range(1, 9))
COUNT = 16


def activation_levels(values, bits):
    """Integer levels 0..n of activations, int64."""
    scaled = np.clip(values, 0, 1).astype(np.float32) * np.float32(2**bits - 1)
    return np.rint(scaled).astype(np.int64)


def weight_levels(weights, bits):
    """Odd integers -n, 2 - n, ..., n: the levels of weights times n, int64."""
    t = np.tanh(np.asarray(weights, np.float64))
    steps = 2**bits - 1
    return 2 * np.rint(steps * (t / np.abs(t).max() / 2 + 0.5)).astype(np.int64) - steps


def clear_weights(random, shape, bits):
    """Weights none of which is so near to a tie that float32 could round it otherwise."""
    weights = random.normal(0, 0.5, shape)
    while True:
        t = np.tanh(weights)
        scaled = (2**bits - 1) * (t / np.abs(t).max() / 2 + 0.5)
        unclear = np.abs(scaled % 1 - 0.5) < 1e-3
        if not unclear.any():
            return weights.astype(np.float32)
        weights[unclear] = random.normal(0, 0.5, unclear.sum())


def ways(function):
    """The same function directly, as a function of the graph, and inside a loop."""

    def looped(x):
        start = tf.constant(0), tf.zeros_like(x)
        return tf.while_loop(lambda i, _: i < 2, lambda i, _: (i + 1, function(x)), start)[1]

    return {
        "direct": function,
        "function": lambda x: as_function(function, x)(x),
        "loop": looped,
    }


@pytest.mark.parametrize("bits", BITS)
def test_weights_of_variables_and_of_fed_values_are_the_integer_reference(bits, random):
    weights = clear_weights(random, (3, 3, 2, 4), bits)
    expected = weight_levels(weights, bits)
    with tf.Graph().as_default() as graph, runtime.session(graph) as session:
        variable = tf.Variable(weights)
        fed = tf.placeholder(tf.float32, weights.shape)
        session.run(variable.initializer)
        found = {
            "variable": DoReFaWeights(bits)(variable),
            "scaled": DoReFaWeights(bits)(fed * 1.0 + 0.0),
            **{name: way(fed) for name, way in ways(DoReFaWeights(bits)).items()},
        }
        for name, values in session.run(found, {fed: weights}).items():
            np.testing.assert_array_equal(np.rint(values * (2**bits - 1)), expected, err_msg=name)


@pytest.mark.parametrize("bits", BITS)
def test_operations_before_and_after_a_quantizer_do_not_change_its_rounding(bits, random):
    steps = 2**bits - 1
    # Multiples of 1/2048, so that every sum and product below is exact; none at a tie.
    values = random.randint(-1024, 1536, 500) / 2048
    values = values[np.abs((values + 0.5) * steps % 1 - 0.5) > 1e-3].astype(np.float32)

    def neighbours(quantize):
        return lambda x: 4 * quantize((x * 2 + 1) * 0.5) + 2

    rounding = {
        "activations": DoReFaActivations(bits),
        "rectified": DoReFaActivations(bits).rectified,
        "quantize_k": lambda x: quantize_k(tf.clip_by_value(x, 0.0, 1.0), bits),
        "quantize_k of a sum": lambda x: quantize_k(
            tf.minimum(tf.nn.relu(x - 0.5), 0.5) + 0.5, bits
        ),
    }
    expected = activation_levels(values + 0.5, bits)
    expected_of_sum = activation_levels(np.clip(values, 0, 0.5) + 0.5, bits)
    with tf.Graph().as_default() as graph, runtime.session(graph) as session:
        fed = tf.placeholder(tf.float32, values.shape)
        found = {
            (name, kind): way(fed)
            for name, quantize in rounding.items()
            for kind, way in ways(neighbours(quantize)).items()
        }
        for (name, kind), result in session.run(found, {fed: values}).items():
            levels = np.rint((result - 2) / 4 * steps)
            wanted = expected_of_sum if "sum" in name else expected
            np.testing.assert_array_equal(levels, wanted, err_msg="%s, %s" % (name, kind))


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_grappler_leaves_the_operations_of_the_rounding_in_the_graph(bits):
    with tf.Graph().as_default() as graph:
        variable = tf.Variable(np.ones((3, 3, 2, 4), np.float32), name="weights")
        output = tf.identity(DoReFaWeights(bits)(variable), name="output")
        graph.add_to_collection("train_op", output)
        meta = tf.train.export_meta_graph(graph=graph)
    config = tf.ConfigProto()
    rewriting = config.graph_options.rewrite_options
    rewriting.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.TWO
    rewriting.min_graph_nodes = -1  # or else it leaves small graphs alone
    rewritten = tf_optimizer.OptimizeGraph(config, meta)
    opaque = {node.name for node in rewritten.node if node.op == "PlaceholderWithDefault"}
    readers = sorted(
        node.op
        for node in rewritten.node
        if any(name.split(":")[0] in opaque for name in node.input)
    )
    # times n, two subtractions that round, and the division by n
    assert readers == ["Mul", "RealDiv", "Sub", "Sub"]
    assert not any(node.op in ("AddN", "Round") for node in rewritten.node)


# Networks


def layers(build, x, f):
    """A convolution and a linear layer, both quantized, and nothing else."""
    x = build.conv(x, "conv1", f, 3)
    x = build.flatten(x)
    return build.linear(x, "logits", 10)


TINY = Architecture(
    name="tiny",
    layers=layers,
    input_shape=(4, 4, 1),
    num_classes=10,
    quantized_layers=("conv1", "logits"),
    nb_filters=3,
    released_names={
        family: {name: "%s_%s" % (family, name) for name in ("conv1/kernel", "logits/kernel")}
        for family in ("fp", "lp")
    },
)


def reference_logits(images, conv, dense, precision):
    """Logits of `TINY` computed in integers; float64 [n, 10]."""
    weight_steps, steps = (2**bits - 1 for bits in precision)
    x = np.pad(
        activation_levels(images, precision.activation_bits), [(0, 0), (1, 1), (1, 1), (0, 0)]
    )
    kernel = weight_levels(conv, precision.weight_bits)
    windows = np.stack([x[:, i : i + 4, j : j + 4, 0] for i in range(3) for j in range(3)], -1)
    sums = windows @ kernel.reshape(9, -1)  # integers, over steps * weight_steps
    hidden = np.clip(sums, 0, steps * weight_steps)
    # Rounded as exact rationals: sums / weight_steps is n times the clipped activation.
    levels = np.rint(hidden / weight_steps).astype(np.int64).reshape(len(images), -1)
    return levels @ weight_levels(dense, precision.weight_bits) / (steps * weight_steps)


def tiny_weights(random, precision):
    """Clear weights of `TINY`: convolution's, linear layer's."""
    return tuple(
        clear_weights(random, shape, precision.weight_bits) for shape in ((3, 3, 1, 3), (48, 10))
    )


def data(random, bits, split="test"):
    """Images on the levels of that many bits, with drawn labels."""
    images = (random.randint(0, 2**bits, (COUNT, 4, 4, 1)) / (2**bits - 1)).astype(np.float32)
    return Dataset("tiny", split, images, random.randint(0, 10, COUNT), 10, (0.0, 1.0), "drawn")


def released(conv, dense):
    """Weights under their released names."""
    return {"lp_conv1/kernel": conv, "lp_logits/kernel": dense}


@pytest.mark.parametrize("bits", BITS)
def test_members_compute_the_integer_reference_alone_and_together(bits, random):
    precision = Precision.of(bits, bits)
    weights = [tiny_weights(random, precision) for _ in range(2)]
    test = data(random, bits)
    expected = [reference_logits(test.images, *pair, precision) for pair in weights]
    with tf.Graph().as_default() as graph, runtime.session(graph) as session:
        fed = tf.placeholder(tf.float32, (None, 4, 4, 1))
        found = {}
        for engine in (True, False):
            members = [
                member_from_arrays(
                    TINY, per_layer(precision, 2), released(*pair), session, engine=engine
                )
                for pair in weights
            ]
            how = "engine" if engine else "layers"
            found[how, "one"] = [members[0].get_logits(fed)]
            found[how, "two"] = Ensemble(members).member_logits(fed)
        for name, logits in session.run(found, {fed: test.images}).items():
            np.testing.assert_allclose(
                logits, expected[: len(logits)], rtol=1e-5, atol=1e-5, err_msg=str(name)
            )


def own_model(precision):
    """A user's Keras model of quantized layers, as `TINY`."""
    quantizers = dict(
        input_quantizer=DoReFaActivations(precision.activation_bits),
        kernel_quantizer=DoReFaWeights(precision.weight_bits),
        use_bias=False,
    )
    images = keras.layers.Input((4, 4, 1))
    x = QuantConv2D(3, 3, padding="same", **quantizers)(images)
    x = QuantDense(10, **quantizers)(keras.layers.Flatten()(x))
    return keras.models.Model(images, keras.layers.Activation("softmax")(x))


@pytest.mark.parametrize("bits", BITS)
def test_predict_and_saved_models_of_quantized_layers_compute_the_integer_reference(
    bits, random, tmp_path
):
    precision = Precision.of(bits, bits)
    conv, dense = tiny_weights(random, precision)
    test = data(random, bits)
    logits = reference_logits(test.images, conv, dense, precision)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    path = str(tmp_path / "own.h5")
    with tf.Graph().as_default() as graph, runtime.session(graph) as session:
        keras.backend.set_session(session)
        model = own_model(precision)
        model.set_weights([conv, dense])
        np.testing.assert_allclose(model.predict(test.images), expected, rtol=1e-4, atol=1e-7)
        keras.models.save_model(model, path, include_optimizer=False)
        again = keras.models.load_model(path, custom_objects=CUSTOM_OBJECTS, compile=False)
        np.testing.assert_allclose(again.predict(test.images), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("bits", BITS)
def test_training_and_its_test_accuracy_compute_the_integer_reference(bits, random, tmp_path):
    precision = Precision.of(bits, bits)
    training, test = data(random, bits, "train"), data(random, bits)
    settings = Settings(
        network=TINY,
        precisions=per_layer(precision, 2),
        options={},
        epochs=1,
        batch_size=COUNT,
        learning_rate=1e-3,
        seed=bits,
    )
    with tf.Graph().as_default(), runtime.session() as session:
        graph = Graph(settings)
        session.run(tf.global_variables_initializer())
        conv, dense = tiny_weights(random, precision)
        for layer, value in (("conv1", conv), ("logits", dense)):
            graph.model.get_layer(layer).kernel.load(value, session)
        feed = {graph.images: training.images, graph.labels: training.labels}
        for feed[graph.training] in (True, False):
            loss = session.run(graph.phases[0].loss, feed)
            assert loss == pytest.approx(
                cross_entropy(reference_logits(training.images, conv, dense, precision), training),
                rel=1e-5,
            )
    arrays = train(settings, training, str(tmp_path), test=test, progress=False)
    conv, dense = arrays["lp_conv1/kernel"], arrays["lp_logits/kernel"]
    logits = reference_logits(test.images, conv, dense, precision)
    margin = logits[np.arange(COUNT), test.labels] - logits.max(axis=1)
    tied = ((logits > logits.max(axis=1, keepdims=True) - 1e-4).sum(axis=1) > 1) & (margin > -1e-4)
    assert tied.sum() <= 2  # float32 may decide these either way
    correct = json.loads((tmp_path / "training.json").read_text())["clean_accuracy"] * COUNT
    assert (margin == 0).sum() - tied.sum() <= round(correct) <= (margin > -1e-4).sum()


def cross_entropy(logits, dataset):
    """Mean cross-entropy of the true classes."""
    logits = logits - logits.max(axis=1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_probs[np.arange(COUNT), dataset.labels].mean()
