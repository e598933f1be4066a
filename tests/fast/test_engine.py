"""`Engine` computes the function that the layers define: logits, gradients, attacks."""

import numpy as np
import pytest

from empir import attacks, runtime
from empir.attacks.base import as_function
from empir.fast.engine import Engine, rearrange_once
from empir.models.ensemble import Ensemble
from empir.models.member import Member, ready_member
from empir.nn import architecture
from empir.nn.layers import QuantConv2D, QuantDense, quantize_once
from empir.nn.precision import FULL, Precision, per_layer
from empir.runtime import keras, tf

pytestmark = pytest.mark.slow  # it builds many networks

WIDTHS = {"MNISTconv": 16, "CIFARconv": 8, "AlexNet": 4}
#: Between numbers about 1; float32 sums in another order.
TOLERANCE = 1e-5


def build(name, precision, session, **options):
    """(member by layers, member by the engine) of one random network."""
    network = architecture(name)
    model = network.build(
        precision, nb_filters=WIDTHS.get(name, 8), trainable=False, seed=1, **options
    )
    session.run([variable.initializer for variable in model.weights])
    precisions = per_layer(precision, len(network.quantized_layers))
    return [ready_member(model, precisions, session, engine) for engine in (False, True)]


def logits_and_gradients(members, images, session):
    """Logits and the gradient of a cross-entropy, per member."""
    x = tf.placeholder(tf.float32, (None,) + images.shape[1:])
    found = []
    for member in members:
        logits = member.get_logits(x)
        found.append((logits, tf.gradients(tf.nn.log_softmax(logits)[:, 3], x)[0]))
    return session.run(found, {x: images})


@pytest.mark.parametrize("name", sorted(WIDTHS))
def test_full_precision_logits_and_gradients_equal_the_layers(name, session, random):
    members = build(name, FULL, session)
    images = random.uniform(size=(5,) + architecture(name).input_shape).astype(np.float32)
    plain, fast = logits_and_gradients(members, images, session)
    for expected, found in zip(plain, fast):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["MNISTconv", "CIFARconv"])
@pytest.mark.parametrize("bits", [(32, 4), (32, 2), (32, 1), (2, 32), (4, 2), (1, 1)])
def test_quantized_logits_and_gradients_equal_the_layers(name, bits, session, random):
    """Where no sum lies within rounding of a tie between two levels.

    With quantized weights and activations sums are multiples of a few fractions, many of them
    exactly on the edges of the clip, and rounding decides whether a gradient passes (see
    test_golden). Weights at full precision have no such ties; else most pixels agree.
    """
    members = build(name, Precision(*bits), session)
    images = random.uniform(size=(5,) + architecture(name).input_shape).astype(np.float32)
    plain, fast = logits_and_gradients(members, images, session)
    agree = [
        np.mean(np.abs(found - expected) <= TOLERANCE * np.abs(expected).max())
        for expected, found in zip(plain, fast)
    ]
    assert min(agree) >= (1 if 32 in bits else 0.9)


def test_mnist_stays_in_blocks_from_one_convolution_to_the_next(session, random):
    _, member = build("MNISTconv", FULL, session)
    before = len(tf.get_default_graph().get_operations())
    member.get_logits(tf.placeholder(tf.float32, [None, 28, 28, 1]))
    added = [op.type for op in tf.get_default_graph().get_operations()[before:]]
    assert added.count("SpaceToDepth") == 1 and added.count("DepthToSpace") == 0
    assert added.count("Conv2D") == 2 and added.count("MatMul") == 2
    assert not {"Tanh", "GatherV2"} & set(added)  # kernels are prepared


@pytest.mark.parametrize("name", ["MNISTconv", "CIFARconv"])
def test_no_operation_is_there_for_gradients_of_kernels(name, session):
    _, member = build(name, Precision(2, 4), session)
    x = tf.placeholder(tf.float32, (None,) + architecture(name).input_shape)

    def added(build):
        before = len(tf.get_default_graph().get_operations())
        return build(), [op.type for op in tf.get_default_graph().get_operations()[before:]]

    logits, forward = added(lambda: member.get_logits(x))
    _, backward = added(lambda: tf.gradients(logits, x))
    assert backward.count("MatMul") == forward.count("MatMul") > 0
    assert "Conv2DBackpropFilter" not in backward and "Conv2DBackpropInput" in backward


@pytest.mark.parametrize("attack", ["fgsm", "bim", "pgd", "cw"])
def test_attacks_through_the_engine_find_the_same(attack, session, random):
    plain, fast = build("MNISTconv", FULL, session)
    images = random.uniform(size=(6, 28, 28, 1)).astype(np.float32)
    parameters = {"cw": dict(max_iterations=20, learning_rate=0.1, initial_const=10, batch_size=6)}
    found = [
        attacks.create(attack, Ensemble([member]).target(attack), session).generate_np(
            images, **parameters.get(attack, {})
        )
        for member in (plain, fast)
    ]
    # Iterated signs amplify rounding of gradients near zero.
    assert np.mean(np.abs(found[0] - found[1]) < 1e-4) > 0.995
    assert np.abs(found[0] - images).max() > 0.01


def test_strides_without_blocks_and_layers_between(session, random):
    """Sizes that blocks do not divide, a pool between strided layers, biases, an activation."""
    model = keras.Sequential(
        [
            keras.layers.InputLayer(input_shape=(15, 15, 2)),
            QuantConv2D(4, 3, strides=2, padding="same", name="a"),
            keras.layers.Activation("relu"),
            keras.layers.Activation("tanh"),
            QuantConv2D(4, 3, strides=2, padding="same", use_bias=True, name="b"),
            keras.layers.MaxPooling2D(2, 1, "same"),
            QuantConv2D(6, 3, padding="same", activation="relu", name="c"),
            QuantConv2D(4, 2, strides=2, name="d"),
            keras.layers.Flatten(),
            QuantDense(5, name="logits"),
            keras.layers.Softmax(),
        ]
    )
    session.run([variable.initializer for variable in model.weights])
    biases = [v for v in model.weights if "bias" in v.name]
    session.run([tf.assign(v, random.normal(size=v.shape.as_list())) for v in biases])
    engine = Engine(model)
    x = random.normal(size=(3, 15, 15, 2)).astype(np.float32)
    fast = session.run(engine(tf.constant(x)))
    plain = session.run(Member(model, [FULL]).get_logits(tf.constant(x)))
    np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-5)


def test_a_trainable_networks_new_weights_are_seen(session, random):
    model = architecture("MNISTconv").build(Precision(2, 4), nb_filters=4, seed=0)
    session.run([variable.initializer for variable in model.weights])
    engine = Engine(model)
    rearrange_once([engine], session)
    x = tf.constant(random.uniform(size=(2, 28, 28, 1)).astype(np.float32))
    logits = [engine(x), Member(model, [Precision(2, 4)]).get_logits(x)]
    before = session.run(logits)
    for variable in model.weights:
        variable.load(random.normal(size=variable.shape.as_list()), session)
    after = session.run(logits)
    np.testing.assert_allclose(*after, rtol=1e-3, atol=1e-3)
    assert np.abs(after[0] - before[0]).max() > 0.1


def test_a_frozen_networks_new_weights_are_seen_when_it_is_rearranged(session, random):
    _, member = build("MNISTconv", FULL, session)
    x = tf.constant(random.uniform(size=(2, 28, 28, 1)).astype(np.float32))
    logits = member.get_logits(x)
    before = session.run(logits)
    for variable in member.model.weights:
        variable.load(random.normal(size=variable.shape.as_list()), session)
    quantize_once([member.model], session)
    rearrange_once([member.engine], session)
    after = session.run([logits, Member(member.model, [FULL]).get_logits(x)])
    np.testing.assert_allclose(*after, rtol=1e-3, atol=1e-3)
    assert np.abs(after[0] - before).max() > 0.1


def test_a_stochastic_kernel_is_drawn_at_every_pass(session, random):
    _, member = build("MNISTconvRand", FULL, session)
    x = tf.constant(random.uniform(size=(2, 28, 28, 1)).astype(np.float32))
    logits = member.get_logits(x)
    assert np.abs(session.run(logits) - session.run(logits)).max() > 0


def test_members_are_made_with_an_engine_unless_there_is_a_gpu(session, monkeypatch):
    network = architecture("MNISTconv")
    model = network.build(FULL, nb_filters=4, trainable=False)
    session.run([variable.initializer for variable in model.weights])
    assert ready_member(model, [FULL] * 3, session).engine is not None
    monkeypatch.setattr(runtime, "gpus", lambda: ["/gpu:0"])
    assert ready_member(model, [FULL] * 3, session).engine is None
    assert ready_member(model, [FULL] * 3, session, engine=True).engine is not None


@pytest.mark.parametrize(
    "name, precision, options",
    [("CIFARconv", Precision(4, 2), {"stochastic_rounding": True}), ("MNISTconvRand", FULL, {})],
)
def test_members_that_draw_have_no_engine_unless_asked(session, name, precision, options):
    network, precisions = architecture(name), [precision] * 3
    model = network.build(precisions, nb_filters=4, trainable=False, **options)
    session.run([variable.initializer for variable in model.weights])
    member = ready_member(model, precisions, session)
    assert member.draws and member.engine is None
    assert ready_member(model, precisions, session, engine=True).engine is not None


def test_a_function_is_one_operation_in_a_loop(session):
    x = tf.placeholder(tf.float32, [None, 2])
    calls = []

    def square(x):
        calls.append(x)
        return x * x, tf.reduce_sum(x)

    _, y = tf.while_loop(
        lambda i, _: i < 3,
        lambda i, x: (i + 1, as_function(square, x)(x)[0]),
        (tf.constant(0), x),
        back_prop=False,
    )
    assert session.run(y, {x: [[2, 1]]}).tolist() == [[256, 1]]
    assert len(calls) == 1
    assert not [op for op in tf.get_default_graph().get_operations() if op.type == "Sum"]
