"""The attacks: equal to CleverHans 2.1.0, batch independent, right where theory says so."""

import cleverhans.attacks as cleverhans
import numpy as np
import pytest
from cleverhans.model import CallableModelWrapper, Model
from cleverhans.utils_keras import KerasModelWrapper

from empir import attacks
from empir.attacks.cw import CarliniWagnerL2
from empir.attacks.pgd import (
    BasicIterativeMethod,
    FastGradientMethod,
    MadryEtAl,
    ProjectedGradientDescent,
    project,
)
from empir.data import mnist
from empir.errors import EmpirError
from empir.models.ensemble import Ensemble
from empir.models.member import Member
from empir.nn import mnistconv
from empir.nn.precision import FULL, Precision, per_layer
from empir.runtime import keras, tf
from tests.support import one_hot

CLIP = dict(clip_min=0.0, clip_max=1.0)
LINF = dict(eps=0.3, eps_iter=0.05, nb_iter=5, **CLIP)
CW = dict(
    batch_size=8,
    learning_rate=0.1,
    initial_const=10.0,
    binary_search_steps=1,
    max_iterations=20,
    **CLIP,
)
COUNT = 16


class Linear(Model):
    """Logits x w for images flattened: gradients known in closed form."""

    def __init__(self, w):
        super().__init__()
        self.w = tf.constant(w, tf.float32)

    def fprop(self, x):
        flat = tf.reshape(x, [-1, self.w.shape[0].value])
        return {"logits": tf.matmul(flat, self.w)}


@pytest.fixture(scope="module")
def data():
    """The first images of the embedded sample: images, one-hot labels, one-hot targets."""
    sample = mnist.load(sample=True).first(COUNT)
    return sample.images, one_hot(sample.labels), one_hot((sample.labels + 3) % 10)


@pytest.fixture
def keras_model(session):
    """(session, full-precision Keras model) with random weights whose decisions vary."""
    keras.backend.set_session(session)
    model = mnistconv.ARCHITECTURE.build(FULL, nb_filters=4, seed=3)
    session.run(tf.global_variables_initializer())
    return session, model


def compare(session, model, ours, theirs, images, parameters):
    """Adversarial images of both implementations."""
    wrapped = KerasModelWrapper(model)
    found = ours(model, sess=session).generate_np(images, **parameters)
    expected = theirs(wrapped, sess=session).generate_np(images, **parameters)
    assert not np.array_equal(expected, images), "the reference attack did nothing"
    return found, expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "norm, labels", [(np.inf, "predicted"), (np.inf, "y_target"), (1, "y"), (2, "y_target")]
)
@pytest.mark.parametrize(
    "ours, theirs, parameters",
    [
        (FastGradientMethod, cleverhans.FastGradientMethod, dict(eps=0.3, **CLIP)),
        (BasicIterativeMethod, cleverhans.BasicIterativeMethod, LINF),
        (MadryEtAl, cleverhans.MadryEtAl, dict(LINF, rand_init=False)),
    ],
    ids=["fgsm", "bim", "pgd"],
)
def test_gradient_attacks_equal_cleverhans(
    keras_model, data, ours, theirs, parameters, norm, labels
):
    session, model = keras_model
    images, y, y_target = data
    chosen = {"predicted": {}, "y": {"y": y}, "y_target": {"y_target": y_target}}[labels]
    found, expected = compare(
        session, model, ours, theirs, images, dict(parameters, ord=norm, **chosen)
    )
    # A sign may flip where a gradient is within rounding of zero.
    assert np.mean(np.abs(found - expected) > 1e-5) <= 1e-3


MANY_STEPS = {"binary_search_steps": 10, "max_iterations": 5, "initial_const": 0.01}


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels, change",
    [
        ("predicted", {}),
        ("y", {}),
        ("y_target", {}),
        ("y", MANY_STEPS),
        ("y_target", MANY_STEPS),
        ("y", {"confidence": 0.02}),
        ("y_target", {"confidence": 0.02}),
        ("y", {"abort_early": False, "learning_rate": 0.01}),
    ],
)
def test_cw_equals_cleverhans(keras_model, data, labels, change):
    session, model = keras_model
    images, y, y_target = (array[:8] for array in data)  # CleverHans' takes whole batches only
    chosen = {"predicted": {}, "y": {"y": y}, "y_target": {"y_target": y_target}}[labels]
    parameters = dict(CW, **dict(change, **chosen))
    found, expected = compare(
        session, model, CarliniWagnerL2, cleverhans.CarliniWagnerL2, images, parameters
    )
    # The path of Adam amplifies rounding: 1e-3 of the range, in all but 1 % of the pixels.
    assert np.mean(np.abs(found - expected) > 1e-3) <= 0.01


def test_cw_returns_the_clean_image_where_it_fails(session, data):
    images = data[0]
    model = Linear(np.zeros((784, 10)))  # every class ties: argmax is always class 0
    y = one_hot(np.zeros(COUNT, int))
    found = CarliniWagnerL2(model, sess=session).generate_np(images, y=y, **CW)
    np.testing.assert_array_equal(found, images)


@pytest.mark.slow
def test_cw_distance_is_near_the_smallest_for_a_linear_model(session, random):
    w = random.randn(784, 2).astype(np.float32)
    image = (0.5 + 0.05 * np.sign(w[:, 0] - w[:, 1])).reshape(1, 28, 28, 1).astype(np.float32)
    y = one_hot([0], 2)
    parameters = dict(CW, binary_search_steps=9, max_iterations=300, learning_rate=0.01)
    found = CarliniWagnerL2(Linear(w), sess=session).generate_np(image, y=y, **parameters)
    logits = image.reshape(1, -1) @ w
    distance = np.abs(logits[0, 0] - logits[0, 1]) / np.linalg.norm(w[:, 0] - w[:, 1])
    assert distance <= np.linalg.norm(found - image) <= 1.05 * distance


@pytest.mark.slow
def test_cw_decides_abort_early_per_batch(keras_model, data):
    """Equal batches give equal results, wherever they stand; the last may be partial."""
    session, model = keras_model
    images, y, _ = data
    together = CarliniWagnerL2(model, sess=session).generate_np(images[:12], y=y[:12], **CW)
    for part in (slice(0, 8), slice(8, 12)):
        alone = CarliniWagnerL2(model, sess=session).generate_np(images[part], y=y[part], **CW)
        np.testing.assert_array_equal(together[part], alone)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["fgsm", "bim", "pgd", "cw"])
@pytest.mark.parametrize("size", [1, 5])
def test_batch_size_does_not_change_a_result(keras_model, data, attack, size):
    session, model = keras_model
    images, y, _ = data
    parameters = {
        "fgsm": dict(eps=0.3, **CLIP),
        "bim": LINF,
        "pgd": LINF,
        "cw": dict(CW, abort_early=False),
    }[attack]
    whole = attacks.create(attack, model, session).generate_np(images, y=y, **parameters)
    own = attacks.create(attack, model, session)
    parts = []
    for start in range(0, COUNT, size):
        part = slice(start, start + size)
        index = {"index": np.arange(COUNT)[part]} if attack == "pgd" else {}
        parts.append(own.generate_np(images[part], y=y[part], **dict(parameters, **index)))
    # Kernels sum in another order for another batch size; signs of gradients near zero may flip.
    assert np.mean(np.abs(np.concatenate(parts) - whole) > 1e-4) <= 2e-3


@pytest.mark.parametrize("norm", [np.inf, 1, 2])
def test_fgsm_of_a_linear_model_is_the_closed_form(session, random, norm):
    w = random.randn(12, 2)
    images = random.rand(3, 2, 2, 3).astype(np.float32)
    found = FastGradientMethod(Linear(w), sess=session).generate_np(
        images, y=one_hot([0, 0, 0], 2), eps=0.1, ord=norm
    )
    direction = w[:, 1] - w[:, 0]  # the loss of class 0 grows along it
    step = {
        np.inf: np.sign(direction),
        1: direction / np.abs(direction).sum(),
        2: direction / np.linalg.norm(direction),
    }[norm]
    np.testing.assert_allclose(
        (found - images).reshape(3, -1), np.tile(0.1 * step, (3, 1)), atol=1e-6
    )


def test_a_zero_gradient_gives_no_step(session, random):
    images = random.rand(2, 2, 2, 3).astype(np.float32)
    for norm in (np.inf, 1, 2):
        found = FastGradientMethod(Linear(np.ones((12, 2))), sess=session).generate_np(
            images, eps=0.1, ord=norm, y=one_hot([0, 1], 2)
        )
        # Equal weights for both classes: the gradient is 0 but for rounding, never NaN.
        assert np.isfinite(found).all() and np.abs(found - images).max() <= 0.1 + 1e-6


@pytest.mark.parametrize("norm", [np.inf, 1, 2])
def test_projection_is_onto_the_ball_and_leaves_its_inside_alone(session, random, norm):
    eta = random.randn(20, 4, 4, 1).astype(np.float32) * np.logspace(-4, 2, 20).reshape(-1, 1, 1, 1)
    found = session.run(project(tf.constant(eta, tf.float32), norm, 0.5))
    sizes = [np.linalg.norm(row.ravel(), norm) for row in found]
    assert max(sizes) <= 0.5 * (1 + 1e-5)
    inside = np.array([np.linalg.norm(row.ravel(), norm) < 0.5 for row in eta])
    assert 0 < inside.sum() < len(eta)
    np.testing.assert_array_equal(found[inside], eta[inside].astype(np.float32))


def start_of(session, images, **parameters):
    """PGD's start: what one step of size 0 leaves."""
    attack = ProjectedGradientDescent(Linear(np.ones((784, 2))), sess=session)
    return attack.generate_np(images, eps=0.3, eps_iter=1e-30, nb_iter=1, **parameters) - images


@pytest.mark.slow
def test_pgd_starts_are_a_function_of_seed_and_index(session, data):
    images = data[0]
    start = start_of(session, images, seed=1, index=np.arange(COUNT))
    np.testing.assert_array_equal(start, start_of(session, images, seed=1))
    again = start_of(session, images, seed=1, index=np.arange(COUNT)[::-1].copy())
    # Equal draws; x + eta - x rounds differently on another image.
    np.testing.assert_allclose(again[::-1], start, atol=1e-6)
    assert np.abs(start_of(session, images, seed=2) - start).max() > 0.1
    assert np.abs(start[0] - start[1]).max() > 0.1


def test_pgd_starts_are_uniform_in_the_ball(session):
    start = start_of(session, np.zeros((50, 28, 28, 1), np.float32))
    assert -0.3 <= start.min() < -0.299 and 0.299 < start.max() <= 0.3
    # 39,200 draws: the standard error of the mean is 0.3 / sqrt(3 n) = 0.0009.
    assert abs(start.mean()) < 0.004 and abs(start.std() - 0.3 / np.sqrt(3)) < 0.004


@pytest.mark.slow
def test_targeted_attacks_approach_the_target(keras_model, data):
    session, model = keras_model
    images, _, y_target = data
    for attack in ("fgsm", "bim", "pgd"):
        parameters = dict(eps=0.1, **CLIP) if attack == "fgsm" else dict(LINF, nb_iter=10)
        own = attacks.create(attack, model, session)
        found = own.generate_np(images, y_target=y_target, **parameters)
        x = tf.placeholder(tf.float32, [None, 28, 28, 1])
        probs = KerasModelWrapper(model).get_probs(x)
        before = (session.run(probs, {x: images}) * y_target).sum(axis=1)
        after = (session.run(probs, {x: found}) * y_target).sum(axis=1)
        assert after.mean() > before.mean()


@pytest.mark.slow
def test_attacks_on_quantized_ensembles_lower_the_loss_they_follow(session, data):
    images, _, _ = data
    members = []
    for seed, precision in ((1, Precision(2, 4)), (2, Precision(2, 4)), (3, FULL)):
        precisions = per_layer(precision, 3)
        members.append(Member(mnistconv.ARCHITECTURE.build(precisions, 4, seed=seed), precisions))
    session.run(tf.global_variables_initializer())
    target = Ensemble(members).target("pgd")
    x = tf.placeholder(tf.float32, [None, 28, 28, 1])
    decision, logits = session.run([target.decision(x), target.get_logits(x)], {x: images})
    found = ProjectedGradientDescent(target, sess=session).generate_np(images, **LINF)
    attacked = session.run(target.get_logits(x), {x: found})
    rows = np.arange(COUNT)
    margin = logits[rows, decision] - logits.mean(axis=1)
    assert (attacked[rows, decision] - attacked.mean(axis=1) < margin).mean() > 0.9


def test_the_loop_is_in_the_graph_once(keras_model, data):
    session, model = keras_model
    sizes = []
    for iterations in (2, 50):
        before = len(session.graph.get_operations())
        x = tf.placeholder(tf.float32, [None, 28, 28, 1])
        BasicIterativeMethod(model, sess=session).generate(x, **dict(LINF, nb_iter=iterations))
        sizes.append(len(session.graph.get_operations()) - before)
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    "attack, parameters, message",
    [
        ("fgsm", dict(epsilon=0.3), "no parameter epsilon"),
        ("bim", dict(ord=3), "ord=3"),
        ("bim", dict(nb_iter=0), "nb_iter=0"),
        ("bim", dict(nb_iter=2**31), "nb_iter=2147483648 must be an integer of 1..1000000"),
        ("pgd", dict(nb_iter=10**6 + 1), "nb_iter=1000001 must be an integer of 1..1000000"),
        ("pgd", dict(nb_iter=2.5), "nb_iter=2.5 must be an integer"),
        ("cw", dict(max_iterations=3 * 10**9), "max_iterations=3000000000 must be an integer"),
        ("cw", dict(binary_search_steps=2**31), "binary_search_steps=2147483648 must be"),
        ("cw", dict(batch_size=2**31), "batch_size=2147483648 must be an integer"),
        ("pgd", dict(eps=-0.1), "eps=-0.1"),
        ("pgd", dict(clip_min=0.0), "go together"),
        ("cw", dict(clip_min=1.0, clip_max=0.0), "needs a range"),
        ("cw", dict(batch_size=0), "batch_size=0"),
        ("fgsm", dict(y=1, y_target=1), "exclude each other"),
    ],
)
def test_bad_parameters_are_named(session, data, attack, parameters, message):
    own = attacks.create(attack, Linear(np.ones((784, 10))), session)
    with pytest.raises(EmpirError, match=message):
        own.generate(tf.constant(data[0]), **parameters)


def test_probabilities_are_not_taken_for_logits(session, data):
    x = tf.constant(data[0])
    logits = Linear(np.ones((784, 10)))
    averaged = CallableModelWrapper(lambda image: logits.get_probs(image) * 1.0, "probs")
    with pytest.raises(EmpirError, match="needs logits"):
        FastGradientMethod(averaged, sess=session).generate(x)
    softmax = CallableModelWrapper(logits.get_probs, "probs")
    FastGradientMethod(softmax, sess=session).generate(x)


def test_a_model_that_ignores_the_image_is_refused(session, data):
    constant = CallableModelWrapper(lambda image: tf.zeros([COUNT, 10]), "logits")
    with pytest.raises(EmpirError, match="do not depend on the image"):
        FastGradientMethod(constant, sess=session).generate(tf.constant(data[0]))


def test_what_is_no_model_is_refused():
    with pytest.raises(EmpirError, match="attacks a cleverhans.model.Model or a Keras model"):
        FastGradientMethod(lambda x: x)


@pytest.mark.parametrize(
    "given, name",
    [("0", "cw"), ("1", "jsma"), (2, "fgsm"), ("3", "pgd"), ("4", "bim"), ("PGD", "pgd")],
)
def test_attack_names_and_the_originals_numbers(given, name):
    assert attacks.canonical_name(given) == name


def test_unknown_attack_lists_the_known():
    with pytest.raises(EmpirError, match="choose from cw, fgsm, bim, pgd, jsma"):
        attacks.canonical_name("5")


def test_repr_lists_every_parameter(session, data):
    own = BasicIterativeMethod(Linear(np.ones((784, 10))), sess=session)
    own.generate(tf.constant(data[0]), **LINF)
    assert repr(own) == (
        "BasicIterativeMethod(clip_max=1.0, clip_min=0.0, eps=0.3, eps_iter=0.05, "
        "nb_iter=5, ord=inf)"
    )


@pytest.mark.slow
def test_cleverhans_own_attacks_run_on_members_and_ensembles(session, data):
    images, y, y_target = data
    member = Member(mnistconv.ARCHITECTURE.build(FULL, nb_filters=4, seed=3), (FULL,) * 3)
    session.run(tf.global_variables_initializer())
    for model in (member, Ensemble([member])):
        found = cleverhans.FastGradientMethod(model, sess=session).generate_np(images, eps=0.1, y=y)
        assert np.abs(found - images).max() == pytest.approx(0.1, abs=1e-6)
    jsma = attacks.create("jsma", Ensemble([member]).target("jsma"), session)
    found = jsma.generate_np(images[:2], y_target=y_target[:2], theta=1.0, gamma=0.01, **CLIP)
    assert 0 < (found != images[:2]).mean() <= 0.02
