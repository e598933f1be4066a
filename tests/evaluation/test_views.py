"""Views: each loss follows the outputs that it names; success is the ensemble's decision alone."""

import numpy as np
import pytest

from empir.attacks.apgd import AutoPGD
from empir.attacks.square import SquareAttack
from empir.errors import EmpirError
from empir.evaluation.views import AttackedEnsemble, ViewSpec
from empir.fast.engine import Engine
from empir.models.ensemble import DECISION_RULES, Ensemble
from empir.models.keras_member import KerasMember
from empir.models.member import Member
from empir.models.model import Model
from empir.nn.layers import QuantDense, Softmax
from empir.nn.precision import Precision
from empir.nn.quantizers import DoReFaActivations
from empir.runtime import keras, tf
from tests.support import one_hot

CLIP = dict(clip_min=0.0, clip_max=1.0)


class Linear(Model):
    """A member with logits x w + b, and random numbers of that deviation added to w."""

    def __init__(self, w, b=0.0, noise=0.0):
        super().__init__()
        self._w = tf.constant(w, tf.float32)
        self._b = tf.constant(b, tf.float32)
        self._noise = noise

    def get_logits(self, x):
        """Logits."""
        w = self._w
        if self._noise:
            w += self._noise * tf.random_normal(w.shape)
        return tf.matmul(tf.reshape(x, [-1, self._w.shape[0].value]), w) + self._b


@pytest.fixture
def problem(random):
    """(two weight matrices, images, labels that the mean of both gives)."""
    w = [random.normal(size=(12, 4)), 3 * random.normal(size=(12, 4))]
    images = random.uniform(0.3, 0.7, size=(7, 3, 4, 1)).astype(np.float32)
    return w, images, (images.reshape(7, -1) @ (w[0] + w[1])).argmax(axis=1)


def ensemble(w, combine="mean_logits", **member):
    """Linear members under a rule."""
    return Ensemble([Linear(one, **member) for one in w], combine)


def assessed(session, view, w, images, labels, towards=None, combine="mean_logits", **member):
    """An `Assessment` as arrays."""
    x = tf.constant(images)
    towards = None if towards is None else tf.constant(one_hot(towards, 4))
    target = tf.constant(one_hot(labels, 4))
    attacked = AttackedEnsemble(ensemble(w, combine, **member), view)
    return session.run(attacked.assess(x, target, towards))


def margin_gradient(w, images, labels):
    """d (max wrong - true) / d x of a linear network."""
    logits = images.reshape(len(images), -1) @ w
    logits[np.arange(len(labels)), labels] = -np.inf
    return (w[:, logits.argmax(axis=1)] - w[:, labels]).T.reshape(images.shape)


def unit(gradient):
    """Each example's gradient at length one."""
    return (
        gradient / np.linalg.norm(gradient.reshape(len(gradient), -1), axis=1)[:, None, None, None]
    )


@pytest.mark.parametrize("combine", DECISION_RULES)
def test_success_is_another_decision_under_the_ensembles_rule(session, problem, combine):
    w, images, labels = problem
    labels = (labels + np.arange(7) % 2) % 4  # every second one is wrong
    found = assessed(session, ViewSpec("member1", "ce"), w, images, labels, combine=combine)
    decided = session.run(ensemble(w, combine).decision(tf.constant(images)))
    np.testing.assert_array_equal(found.success, decided != labels)
    assert found.success.any() and not found.success.all()


@pytest.mark.parametrize("number", [1, 2])
def test_a_members_view_follows_that_member(session, problem, number):
    w, images, labels = problem
    found = assessed(session, ViewSpec("member%d" % number), w, images, labels)
    expected = margin_gradient(w[number - 1], images, labels)
    np.testing.assert_allclose(found.gradient, expected, rtol=1e-5)


def test_the_means_view_follows_the_mean(session, problem):
    w, images, labels = problem
    found = assessed(session, ViewSpec("mean_logits"), w, images, labels)
    mean = (w[0] + w[1]) / 2
    np.testing.assert_allclose(found.gradient, margin_gradient(mean, images, labels), rtol=1e-5)


def test_balanced_gradients_are_sums_of_equal_lengths(session, problem):
    w, images, labels = problem
    found = assessed(session, ViewSpec("balanced"), w, images, labels)
    expected = sum(unit(margin_gradient(one, images, labels)) for one in w)
    np.testing.assert_allclose(found.gradient, expected, atol=1e-5)


def test_a_lead_towards_a_class_is_its_gradient(session, problem):
    w, images, labels = problem
    towards = (labels + 1) % 4
    found = assessed(session, ViewSpec("member1"), w, images, labels, towards)
    expected = (w[0][:, towards] - w[0][:, labels]).T.reshape(images.shape)
    np.testing.assert_allclose(found.gradient, expected, rtol=1e-5)
    logits = images.reshape(7, -1) @ w[0]
    lead = logits[range(7), towards] - logits[range(7), labels]
    np.testing.assert_allclose(found.loss, lead, rtol=1e-4, atol=1e-5)


def sure(w):
    """A network so sure of itself that its cross-entropy is zero in float32."""
    return [1e4 * one for one in w]


@pytest.mark.slow
@pytest.mark.parametrize(
    "view, follows",
    [
        (ViewSpec("mean_logits", "ce"), False),
        (ViewSpec("mean_probs", "ce"), False),
        (ViewSpec("mean_logits", "ce", scaled=True), True),
        (ViewSpec("balanced", "ce", scaled=True), True),
        (ViewSpec("mean_logits", "margin"), True),
        (ViewSpec("mean_logits", "dlr"), True),
    ],
    ids=str,
)
def test_vanishing_gradients_stop_a_plain_cross_entropy_only(session, problem, view, follows):
    w, images, labels = problem
    w = sure([w[0] + w[1]])
    found = assessed(session, view, w, images, labels)
    assert (np.abs(found.gradient).max(axis=(1, 2, 3)) > 1e-6).all() == follows
    attack = AutoPGD(AttackedEnsemble(ensemble(w), view), sess=session)
    attacked = attack.generate_np(
        images, y=one_hot(labels, 4), eps=0.25, nb_iter=20, rand_init=False, **CLIP
    )
    wrong = (attacked.reshape(7, -1) @ w[0]).argmax(axis=1) != labels
    assert wrong.all() if follows else not wrong.all()


@pytest.mark.slow
def test_draws_average_the_gradients_of_a_random_network(session, problem):
    w, images, labels = problem
    # No wrong class overtakes another one, so that the margin's expectation is linear.
    towards = (labels + 1) % 4
    expected = (w[0][:, towards] - w[0][:, labels]).T.reshape(images.shape)

    def error(draws):
        view = ViewSpec("mean_logits", "margin", samples=draws)
        found = assessed(session, view, w[:1], images, labels, towards, noise=1.0)
        return np.abs(found.gradient - expected).mean()

    assert error(64) < 0.25 * error(1)  # 1/8 is expected


@pytest.mark.slow
def test_success_on_a_random_network_is_that_most_draws_are_wrong(session, problem):
    w, images, labels = problem
    labels = (labels + np.arange(7) % 2) % 4
    # So little noise that the images' classes seldom change, and every pass draws anew.
    found = assessed(session, ViewSpec(samples=8), w, images, labels, noise=0.01)
    np.testing.assert_array_equal(found.success, np.arange(7) % 2 == 1)


def test_a_view_outside_the_ensemble_follows_that_network(session, problem):
    w, images, labels = problem
    x, target = tf.constant(images), tf.constant(one_hot(labels, 4))
    outside = [Linear(w[0]), Linear(2 * w[1])]
    attacked = AttackedEnsemble(ensemble(w[:1]), ViewSpec("outside2"), outside)
    found = session.run(attacked.assess(x, target))
    expected = margin_gradient(2 * w[1], images, labels)
    np.testing.assert_allclose(found.gradient, expected, rtol=1e-5)
    decided = (images.reshape(7, -1) @ w[0]).argmax(axis=1)
    np.testing.assert_array_equal(found.success, decided != labels)


def test_a_network_without_a_gradient_has_a_zero_one(session, problem):
    w, images, labels = problem
    stuck = Linear(w[0])
    stuck.get_logits = lambda x: Linear(w[0]).get_logits(tf.round(x * 255) / 255)
    target = tf.constant(one_hot(labels, 4))
    attacked = AttackedEnsemble(Ensemble([stuck]))
    found = session.run(attacked.assess(tf.constant(images), target))
    assert found.gradient.shape == images.shape and not found.gradient.any()


@pytest.mark.slow
def test_a_vote_is_changed_where_the_mean_leads_astray(session, random):
    """The third member's gradient is the largest, and points away from what fools the others."""
    images = random.uniform(0.3, 0.7, size=(7, 3, 4, 1)).astype(np.float32)
    w = random.normal(size=(12, 4)) * [0, 0, 1, 0]
    flat = images.reshape(7, -1) @ w
    bias = np.array([flat.max() + 0.05, -100, 0, -100])
    members = [Linear(w, bias), Linear(w, bias), Linear(-50 * w, [500, -500, 0, -500])]
    ensemble, labels = Ensemble(members, "vote"), one_hot(np.zeros(7, int), 4)

    def fools_all(view):
        attack = AutoPGD(AttackedEnsemble(ensemble, view), sess=session)
        found = attack.generate_np(images, y=labels, eps=0.2, nb_iter=30, **CLIP)
        return (session.run(ensemble.decision(tf.constant(found))) != 0).all()

    assert not fools_all(ViewSpec("mean_logits"))
    for loss in ("margin", "next", "sum"):
        assert fools_all(ViewSpec("vote", loss)), loss


@pytest.mark.slow
def test_a_class_to_lead_to_wins_the_vote(session, problem):
    w, images, labels = problem
    toward = (labels + 1) % 4
    ensembled = ensemble(w + [w[0] + w[1]], "vote")
    attack = AutoPGD(AttackedEnsemble(ensembled, ViewSpec("vote")), sess=session)
    parameters = dict(y=one_hot(labels, 4), eps=0.4, nb_iter=40, **CLIP)
    found = attack.generate_np(images, toward=one_hot(toward, 4), **parameters)
    assert np.mean(session.run(ensembled.decision(tf.constant(found))) != labels) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    "view", [ViewSpec(), ViewSpec("balanced", "ce"), ViewSpec("member2")], ids=str
)
def test_an_attack_on_a_view_fools_the_ensemble(session, problem, view):
    w, images, labels = problem
    attack = AutoPGD(AttackedEnsemble(ensemble(w), view), sess=session)
    found = attack.generate_np(images, y=one_hot(labels, 4), eps=0.3, nb_iter=40, **CLIP)
    decided = session.run(ensemble(w).decision(tf.constant(found)))
    assert np.mean(decided != labels) > 0.8
    assert np.abs(found - images).max() <= 0.3 + 1e-6


def test_the_square_attack_scores_the_ensemble(session, problem):
    w, images, labels = problem
    attack = SquareAttack(AttackedEnsemble(ensemble(w, "vote")), sess=session)
    found = attack.generate_np(images, y=one_hot(labels, 4), eps=0.3, nb_iter=300, **CLIP)
    decided = session.run(ensemble(w, "vote").decision(tf.constant(found)))
    assert np.mean(decided != labels) > 0.8


@pytest.mark.parametrize(
    "view, says",
    [
        (
            ViewSpec("member3"),
            "outputs='member3': choose from mean_logits, mean_probs, balanced, vote, member1",
        ),
        (ViewSpec(loss="hinge"), "loss='hinge'"),
        (ViewSpec(samples=0), "samples=0"),
    ],
    ids=str,
)
def test_bad_views_are_named(session, problem, view, says):
    with pytest.raises(EmpirError, match=says):
        AttackedEnsemble(ensemble(problem[0]), view)


X = np.array([-0.5, 0.0, 0.2, 0.25, 0.5, 1.0, 1.5], np.float32)
ABOVE = 3 * X[2:5] - np.floor(3 * X[2:5])  # in steps above the level below, of two bits
INSIDE = 6 * ABOVE * (1 - ABOVE)


@pytest.mark.parametrize(
    "name, rectified, expected",
    [
        ("clipped", False, [0, 1, 1, 1, 1, 1, 0]),
        ("clipped", True, [0, 0, 1, 1, 1, 1, 0]),
        ("open", False, [1, 1, 1, 1, 1, 1, 1]),
        ("open", True, [0, 0, 1, 1, 1, 1, 1]),
        ("smooth", False, [0, 1, *INSIDE, 1, 0]),
        ("smooth", True, [0, 0, *INSIDE, 1, 0]),
    ],
)
def test_backward_passes_are_the_gradients_they_name(session, name, rectified, expected):
    plain, x = DoReFaActivations(2), tf.constant(X)
    quantizer = plain.with_backward(name)
    before = plain(tf.nn.relu(x)) if rectified else plain(x)
    quantized = quantizer.rectified(x) if rectified else quantizer(x)
    (gradient,) = tf.gradients(quantized, x)
    forward, unchanged, found = session.run([quantized, before, gradient])
    np.testing.assert_array_equal(forward, unchanged)
    np.testing.assert_allclose(found, expected, atol=1e-5)  # levels are not exact in float32


def quantized_member(kind):
    """A model that sums the quantized pixels of [n, 2, 2, 1] images as its first logit."""
    layers = [
        keras.layers.Flatten(input_shape=(2, 2, 1)),
        QuantDense(3, input_quantizer=DoReFaActivations(1), name="logits", use_bias=False),
    ]
    if kind == "Keras model":
        member = KerasMember(keras.Sequential(layers))
    else:
        model = keras.Sequential(layers + [Softmax(name="probs")])
        member = Member(model, [Precision(None, 1)])
        if kind == "engine":
            member.engine = Engine(model)
    member.model.set_weights([np.eye(4, 3, dtype=np.float32)])
    return member


@pytest.mark.parametrize("kind", ["layers", "engine", "Keras model"])
def test_a_model_with_another_backward_pass_shares_its_weights(kind):
    x = tf.constant(np.full((1, 2, 2, 1), 1.5, np.float32))
    with tf.Session().as_default() as session:
        keras.backend.set_session(session)
        ensemble = Ensemble([quantized_member(kind)])
        opened = ensemble.with_backward("open")
        for model, slopes in ((opened, [1, 1, 1, 0]), (ensemble, [0, 0, 0, 0])):
            for view in (model, model.target(), model.members[0]):
                logits = view.get_logits(x)
                found = session.run([logits, tf.gradients(logits, x)[0]])
                np.testing.assert_array_equal(found[0], [[1, 1, 1]])
                np.testing.assert_array_equal(found[1].ravel(), slopes)
        assert opened.get_params() == ensemble.get_params()
        with pytest.raises(EmpirError, match="backward='none': choose from clipped, open, smooth"):
            ensemble.with_backward("none")
