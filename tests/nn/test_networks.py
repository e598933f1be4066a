"""The networks: their sizes, shapes, precisions, seeds and options (docs/original.md, Paper,
Networks, Checkpoint variables)."""

import numpy as np
import pytest

from empir import runtime
from empir.errors import EmpirError
from empir.nn import architecture, family, weights
from empir.nn.layers import layers_of, quantize_once
from empir.nn.precision import FULL, Precision
from empir.nn.quantizers import DoReFaActivations, DoReFaWeights
from empir.runtime import keras, tf

W2A4 = Precision(2, 4)
NARROW = dict(nb_filters=2, seed=5)
CONVOLUTIONS = ("conv1", "conv2", "conv3")
#: docs/original.md, Paper: weights, and those of them that a low-precision network quantizes.
SIZES = {"MNISTconv": (709888, 708608), "CIFARconv": (116704, 79200)}


@pytest.fixture(params=sorted(SIZES))
def network(request):
    """An architecture."""
    return architecture(request.param)


def images(network, random, count=3):
    """Random images of the network's shape and range, with dark and bright parts."""
    shape = (count,) + network.input_shape
    return np.clip(random.uniform(-0.5, 1.5, shape), 0, 1).astype(np.float32)


def outputs(network, images, precision=FULL, layers=("logits",), runs=1, **options):
    """Outputs of a narrow seeded network's layers: one list per layer, one array per run."""
    with tf.Graph().as_default() as graph, runtime.session(graph) as session:
        model = network.build(precision, **dict(NARROW, **options))
        session.run(tf.global_variables_initializer())
        quantize_once([model], session)
        tensors = [model.get_layer(name).output for name in layers]
        results = [session.run(tensors, {model.input: images}) for _ in range(runs)]
    return [list(of_layer) for of_layer in zip(*results)]


def initial_weights(network, **options):
    """Name -> value of a freshly initialized network's latent weights."""
    with tf.Graph().as_default() as graph, runtime.session(graph) as session:
        variables = weights(network.build(**options))
        session.run(tf.global_variables_initializer())
        return session.run(variables)


def quantizers(model):
    """Layer name -> (activation bits, weight bits) of the layers that have quantizers."""
    return {
        layer.name: tuple(q and q.bits for q in (layer.input_quantizer, layer.kernel_quantizer))
        for layer in model.layers
        if getattr(layer, "input_quantizer", None) or getattr(layer, "kernel_quantizer", None)
    }


# Size


def test_it_has_the_papers_number_of_weights(network, session):
    model = network.build(W2A4)
    size = {name: int(np.prod(v.shape.as_list())) for name, v in weights(model).items()}
    quantized = sum(n for name, n in size.items() if name.split("/")[0] in quantizers(model))
    assert (sum(size.values()), quantized) == SIZES[network.name]
    assert model.count_params() == SIZES[network.name][0]


#: Output shape of every layer and shape of every weight at width f.
SHAPES = {
    "MNISTconv": lambda f: (
        [
            ("conv1", (14, 14, f)),
            ("relu1", (14, 14, f)),
            ("conv2", (5, 5, 2 * f)),
            ("relu2", (5, 5, 2 * f)),
            ("conv3", (1, 1, 2 * f)),
            ("relu3", (1, 1, 2 * f)),
            ("flatten", (2 * f,)),
            ("logits", (10,)),
            ("probs", (10,)),
        ],
        [
            ("conv1/kernel", [8, 8, 1, f]),
            ("conv2/kernel", [6, 6, f, 2 * f]),
            ("conv3/kernel", [5, 5, 2 * f, 2 * f]),
            ("logits/kernel", [2 * f, 10]),
        ],
    ),
    "CIFARconv": lambda f: (
        [
            ("conv1", (32, 32, f)),
            ("pool1", (15, 15, f)),
            ("relu1", (15, 15, f)),
            ("conv2", (15, 15, f)),
            ("relu2", (15, 15, f)),
            ("pool2", (7, 7, f)),
            ("conv3", (7, 7, 2 * f)),
            ("relu3", (7, 7, 2 * f)),
            ("pool3", (3, 3, 2 * f)),
            ("flatten", (18 * f,)),
            ("linear1", (64,)),
            ("logits", (10,)),
            ("probs", (10,)),
        ],
        [
            ("conv1/kernel", [5, 5, 3, f]),
            ("conv2/kernel", [5, 5, f, f]),
            ("conv3/kernel", [5, 5, f, 2 * f]),
            ("linear1/kernel", [18 * f, 64]),
            ("logits/kernel", [64, 10]),
        ],
    ),
}


@pytest.mark.parametrize("f", [2, None])
def test_the_width_sets_every_layers_shape(network, f, session):
    model = network.build(nb_filters=f)
    layers, kernels = SHAPES[network.name](f or network.nb_filters)
    assert [(layer.name, layer.output_shape[1:]) for layer in layers_of(model)] == layers
    assert [(name, v.shape.as_list()) for name, v in weights(model).items()] == kernels


def test_cifarconv_takes_the_maximum_and_averages_without_padding(session, random):
    cifarconv = architecture("CIFARconv")
    names = ("conv1", "pool1", "relu1", "relu2", "pool2", "linear1", "logits")
    values = outputs(cifarconv, images(cifarconv, random), layers=names)
    conv1, pool1, relu1, relu2, pool2, linear1, logits = (of_layer[0] for of_layer in values)
    for name, before, after, pool in (
        ("pool1", conv1, pool1, np.max),
        ("pool2", relu2, pool2, np.mean),
    ):
        size = after.shape[1]
        windows = [
            before[:, i : i + 2 * size - 1 : 2, j : j + 2 * size - 1 : 2]
            for i in range(3)
            for j in range(3)
        ]
        np.testing.assert_allclose(after, pool(windows, axis=0), rtol=1e-5, err_msg=name)
    np.testing.assert_array_equal(relu1, np.maximum(pool1, 0))
    # No rectifier between the linear layers: the second sees negative values.
    assert (linear1 < 0).any()
    kernel = initial_weights(cifarconv, **NARROW)["logits/kernel"]
    np.testing.assert_allclose(logits, linear1 @ kernel, rtol=1e-4, atol=1e-5)


# Precision


@pytest.mark.parametrize(
    "precision, expected",
    [
        (FULL, {}),
        (W2A4, {"conv1": (4, 2), "conv2": (4, 2), "conv3": (4, 2)}),
        (Precision(None, 3), {"conv1": (3, None), "conv2": (3, None), "conv3": (3, None)}),
        ((W2A4, FULL, Precision(1, None)), {"conv1": (4, 2), "conv3": (None, 1)}),
    ],
)
def test_only_the_convolutions_are_quantized_each_at_its_bits(
    network, precision, expected, session
):
    model = network.build(precision, nb_filters=2)
    assert quantizers(model) == expected
    for name in expected:
        layer = model.get_layer(name)
        assert isinstance(layer.input_quantizer, (DoReFaActivations, type(None)))
        assert isinstance(layer.kernel_quantizer, (DoReFaWeights, type(None)))


@pytest.mark.slow
@pytest.mark.parametrize("precision", [FULL, W2A4])
@pytest.mark.parametrize("trainable", [True, False])
def test_one_precision_equals_three_of_it(network, precision, trainable, random):
    x = images(network, random)
    uniform = outputs(network, x, precision, trainable=trainable)
    np.testing.assert_array_equal(
        uniform, outputs(network, x, [precision] * 3, trainable=trainable)
    )


@pytest.mark.parametrize("layer", range(3))
def test_every_layers_precision_matters(network, layer, random):
    x = images(network, random)
    precisions = [W2A4] * 3
    precisions[layer] = Precision(3, 3)
    assert (outputs(network, x, W2A4)[0][0] != outputs(network, x, precisions)[0][0]).any()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_layer_wise_precisions_must_be_three(network, count):
    with pytest.raises(EmpirError, match="quantizes 3 layers"):
        network.build([W2A4] * count)


@pytest.mark.parametrize("precision", [Precision(0, 4), Precision(2, 33)])
def test_bits_out_of_range_are_an_error(network, precision, session):
    with pytest.raises(EmpirError, match="_bits="):
        network.build(precision, nb_filters=2)


@pytest.mark.parametrize("bits", [1, 4])
def test_images_of_equal_levels_have_equal_logits(network, bits, random):
    steps = 2**bits - 1
    # Within 0.4 steps of a level, so that rounding leads back to it.
    level = random.randint(0, steps + 1, (2,) + network.input_shape) / steps
    noise = random.uniform(-0.4, 0.4, (2, 2) + network.input_shape) / steps
    one, other = np.clip(level + noise, 0, 1).astype(np.float32)
    assert np.abs(one - other).max() > 0.1 / steps
    quantized = Precision(2, bits)
    np.testing.assert_array_equal(
        outputs(network, one, quantized), outputs(network, other, quantized)
    )
    # Full precision tells them apart, and so does a first layer that leaves the image alone.
    for precision in (FULL, [Precision(2, None), quantized, quantized]):
        first = [outputs(network, x, precision, ["relu1"])[0][0] for x in (one, other)]
        assert (first[0] != first[1]).any()


def test_quantizing_the_weights_once_changes_no_logits(network, random):
    x = images(network, random)
    frozen, trained = [outputs(network, x, W2A4, trainable=t)[0][0] for t in (False, True)]
    # The same kernels; TensorFlow may order the float32 sums of at most 100 terms differently.
    np.testing.assert_allclose(frozen, trained, rtol=1e-5, atol=1e-5)


def test_only_a_trainable_network_has_trainable_weights(network, session):
    model = network.build(W2A4, nb_filters=2)
    assert len(model.trainable_weights) == len(model.weights) == len(weights(model))
    frozen = network.build(W2A4, nb_filters=2, trainable=False)
    assert frozen.trainable_weights == [] and len(frozen.weights) == len(model.weights)
    assert all(frozen.get_layer(name).cached_kernel is not None for name in CONVOLUTIONS)


# Seeds


@pytest.mark.parametrize("precision", [FULL, W2A4])
def test_a_seed_determines_the_initial_weights(network, precision):
    first, again, other = [
        initial_weights(network, precision=precision, nb_filters=2, seed=seed)
        for seed in (1, 1, 11)
    ]
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).all(), name


def test_every_layer_starts_normalised_from_a_seed_of_its_own(network, session):
    variables = weights(network.build(nb_filters=2, seed=7))
    draws = {}
    for seed, (name, variable) in enumerate(variables.items(), 7):
        shape = variable.shape.as_list()
        linear = len(shape) == 2
        draw = tf.random_normal if linear else tf.truncated_normal
        draws[name] = draw(shape, stddev=0.05 if linear else 0.1, seed=seed)
    session.run(tf.global_variables_initializer())
    values, draws = session.run([variables, draws])
    for name, draw in draws.items():
        norms = np.sqrt((draw**2).sum(axis=tuple(range(draw.ndim - 1))))
        # The 1e-7 beside a sum of squares of at least 1e-4.
        np.testing.assert_allclose(values[name], draw / norms, rtol=1e-3, err_msg=name)


# Options


@pytest.mark.parametrize("precision", [FULL, W2A4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_the_temperature_scales_logits_inside_the_softmax_only(
    network, precision, temperature, random
):
    x = images(network, random)
    (logits,), (probs,) = outputs(
        network, x, precision, ("logits", "probs"), temperature=temperature
    )
    np.testing.assert_array_equal(logits, outputs(network, x, precision)[0][0])
    scaled = np.exp(temperature * logits.astype(np.float64))
    # float32 logits below 10 times 20: errors of 200 * 2^-24 pass through the exponential; what is
    # below 1e-30 may underflow.
    expected = scaled / scaled.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probs, expected, rtol=1e-4, atol=1e-30)


def test_stochastic_rounding_is_every_quantizers(network, session):
    model = network.build(W2A4, nb_filters=2, stochastic_rounding=True)
    for name in CONVOLUTIONS:
        layer = model.get_layer(name)
        assert layer.input_quantizer.stochastic and layer.kernel_quantizer.stochastic


def test_nothing_is_stochastic_by_default(network, random):
    first, second = outputs(network, images(network, random), W2A4, runs=2)[0]
    np.testing.assert_array_equal(first, second)


# The table of architectures


def test_the_architecture_is_found_by_the_papers_name(network, session):
    model = network.build(FULL)
    assert network.quantized_layers == CONVOLUTIONS
    assert model.input_shape == (None,) + network.input_shape
    assert model.output_shape == (None, network.num_classes)
    assert model.get_layer("conv1").filters == network.nb_filters
    assert model.get_layer("logits").output_shape == model.output_shape
    assert isinstance(model, keras.Model) and model.name == network.name


def test_an_unknown_architecture_is_an_error_that_names_the_known():
    with pytest.raises(EmpirError, match="'LeNet': choose from AlexNet, CIFARconv, MNISTconv, M"):
        architecture("LeNet")


@pytest.mark.parametrize("name", ["fp", "lp"])
def test_every_weight_has_one_released_name(network, name, session):
    released = network.released_names[name]
    assert list(released) == list(weights(network.build(nb_filters=2)))
    assert len(set(released.values())) == len(released)
    assert all(theirs.startswith(name + "_") for theirs in released.values())


@pytest.mark.parametrize(
    "precisions, expected",
    [
        ([FULL] * 3, "fp"),
        ([W2A4] * 3, "lp"),
        ([FULL, FULL, W2A4], "lp"),
        ([FULL, Precision(None, 4), FULL], "lp"),
    ],
)
def test_a_network_with_any_quantized_layer_is_of_the_family_lp(precisions, expected):
    assert family(precisions) == expected
