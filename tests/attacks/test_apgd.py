"""Auto-PGD: its schedule, its bounds, and that it finds what there is to find."""

import numpy as np
import pytest

from empir.attacks import apgd, losses
from empir.attacks.apgd import AutoPGD
from empir.attacks.base import Assessment, ModelWithLoss
from empir.attacks.pgd import ProjectedGradientDescent, unit
from empir.data import mnist
from empir.errors import EmpirError
from empir.models.ensemble import Ensemble
from empir.models.member import Member
from empir.nn import mnistconv
from empir.nn.precision import FULL, Precision, per_layer
from empir.runtime import tf
from tests.attacks.test_attacks import Linear
from tests.support import one_hot

CLIP = dict(clip_min=0.0, clip_max=1.0)


@pytest.fixture(scope="module")
def data():
    """The first images of the embedded sample."""
    return mnist.load(sample=True).first(24)


def ensemble(session):
    """Two narrow members with random weights."""
    members = []
    for seed, precision in ((1, Precision(2, 4)), (3, FULL)):
        precisions = per_layer(precision, 3)
        model = mnistconv.ARCHITECTURE.build(precisions, 4, seed=seed)
        members.append(Member(model, precisions))
    session.run(tf.global_variables_initializer())
    return Ensemble(members)


def test_checkpoints_are_the_papers():
    table = apgd.checkpoints(100)
    places = [place + 1 for place, since in enumerate(table) if since]
    assert places == [22, 41, 57, 70, 80, 87, 93, 99]
    assert [table[place - 1] for place in places] == [22, 19, 16, 13, 10, 7, 6, 6]


@pytest.mark.parametrize("nb_iter", [1, 2, 7, 1000])
def test_there_is_a_table_for_any_number_of_steps(nb_iter):
    table = apgd.checkpoints(nb_iter)
    assert len(table) == nb_iter and max(table) >= 1


def test_the_cross_entropy_and_its_gradient_are_tensorflows(session, random):
    logits = tf.constant(random.normal(size=(5, 4)).astype(np.float32))
    labels = one_hot(np.array([0, 3, 1, 1, 2]), 4)
    plain = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
    found = losses.cross_entropy_and_gradient(logits, labels)
    own = losses.cross_entropy(logits, labels)
    expected, found, own, at_logits = session.run(
        [(plain, tf.gradients(plain, logits)[0]), found, own, tf.gradients(own, logits)[0]]
    )
    for each, other in zip(found + (own, at_logits), expected + expected):
        np.testing.assert_array_equal(each, other)


def test_margins(session):
    logits = tf.constant([[1.0, 4.0, 2.0, 0.0], [5.0, 1.0, 3.0, 3.0]])
    labels = tf.constant(one_hot([1, 3], 4))
    assert session.run(losses.margin(logits, labels)).tolist() == [-2.0, 2.0]
    found = session.run(losses.ratio_margin(logits, labels))
    np.testing.assert_allclose(found, [-2 / 3, 2 / 2])
    scaled = session.run(losses.ratio_margin(100 * logits + 7, labels))
    np.testing.assert_allclose(scaled, found, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_a_linear_model_is_climbed_to_the_corner(session, random, loss):
    """For two classes the margin's maximum in the ball is at x + eps sign(w_other - w_label)."""
    w = random.normal(size=(12, 3))
    w[:, 2] = -100 / 12  # a third class that never wins
    images = random.uniform(0.4, 0.6, size=(5, 3, 4, 1)).astype(np.float32)
    labels = (images.reshape(5, -1) @ w).argmax(axis=1)
    other = 1 - labels
    attack = AutoPGD(Linear(w), sess=session)
    eps = 1e-3  # too small to be misclassified, so the best point is returned
    found = attack.generate_np(images, y=one_hot(labels, 3), eps=eps, nb_iter=20, loss=loss, **CLIP)
    direction = np.sign(w[:, other] - w[:, labels]).T.reshape(images.shape)
    np.testing.assert_allclose(found, images + eps * direction, atol=1e-6)


def test_a_linear_model_in_the_l2_ball(session, random):
    w = np.stack([random.normal(size=12), random.normal(size=12)], axis=1)
    images = random.uniform(0.4, 0.6, size=(5, 3, 4, 1)).astype(np.float32)
    labels = (images.reshape(5, -1) @ w).argmax(axis=1)
    attack = AutoPGD(Linear(w), sess=session)
    found = attack.generate_np(
        images, y=one_hot(labels, 2), eps=1e-3, nb_iter=40, loss="margin", ord=2, **CLIP
    )
    direction = (w[:, 1 - labels] - w[:, labels]).T
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    np.testing.assert_allclose(found, images + 1e-3 * direction.reshape(images.shape), atol=2e-5)


def test_an_l2_step_has_a_direction_however_small_the_gradient(session, random):
    gradient = random.normal(size=(4, 2, 3, 1)) * np.array([1e-30, 1e-9, 1, 1e15]).reshape(
        4, 1, 1, 1
    )
    gradient = np.append(gradient, np.zeros((1, 2, 3, 1)), axis=0).astype(np.float32)
    found = session.run(unit(tf.constant(gradient))).reshape(5, -1)
    norms = np.linalg.norm(gradient.astype(np.float64).reshape(5, -1), axis=1, keepdims=True)
    np.testing.assert_allclose(found[:4], gradient.reshape(5, -1)[:4] / norms[:4], rtol=1e-5)
    assert not found[4].any()


class Counted(ModelWithLoss):
    """Images are adversarial where their first pixel is at most `limit`; notes what it is asked."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.sizes = limit, []

    def assess(self, image, labels, toward=None):
        """See `ModelWithLoss.assess`."""
        first = image[:, 0, 0, 0]
        with tf.control_dependencies([tf.py_func(self._note, [tf.shape(image)[0]], [])]):
            loss = -tf.identity(first)
        return Assessment(loss, tf.gradients(loss, image)[0], first <= self.limit)

    def _note(self, size):
        self.sizes.append(int(size))


def test_images_that_are_adversarial_cost_nothing_more(session):
    images = np.full((64, 2, 2, 1), 0.5, np.float32)
    images[8:] = 0.1  # these are adversarial from the start, and the others never are
    model = Counted(0.2)
    attack = AutoPGD(model, sess=session)
    how = dict(y=one_hot(np.zeros(64, int), 2), eps=0.1, nb_iter=5, rand_init=False, **CLIP)
    found = attack.generate_np(images, **how)
    assert model.sizes == [64] + 5 * [8]
    np.testing.assert_array_equal(found[8:], images[8:])
    np.testing.assert_allclose(found[:8, 0, 0, 0], 0.4, atol=1e-6)


@pytest.mark.slow
def test_it_starts_from_given_images_moved_into_the_ball(session, data):
    attack = AutoPGD(ensemble(session).target(), sess=session)
    start = np.clip(data.images + 0.5, 0, 1)
    how = dict(y_target=one_hot(data.labels), eps=0.1, nb_iter=1, loss="ce", **CLIP)
    moved = np.clip(data.images + 0.1, 0, 1)
    far, near = (attack.generate_np(data.images, initial=x, **how) for x in (start, moved))
    np.testing.assert_array_equal(far, near)
    assert np.abs(far - attack.generate_np(data.images, **how)).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("ord", [np.inf, 2])
def test_images_stay_in_the_ball_and_in_range(session, data, ord):
    eps = 0.1 if ord == np.inf else 1.5
    attack = AutoPGD(ensemble(session).target(), sess=session)
    found = attack.generate_np(data.images, eps=eps, nb_iter=10, ord=ord, **CLIP)
    change = (found - data.images).reshape(len(found), -1).astype(np.float64)
    assert np.linalg.norm(change, ord, axis=1).max() <= eps * (1 + 1e-5)
    assert found.min() >= 0 and found.max() <= 1 and np.isfinite(found).all()


@pytest.mark.slow
def test_success_is_the_first_adversarial_image(session, data):
    """An image that is misclassified already is returned as it is."""
    target = ensemble(session).target()
    labels = one_hot(data.labels)
    decided = session.run(target.decision(tf.constant(data.images)))
    wrong = decided != data.labels
    assert wrong.any()  # random weights: most images are misclassified from the start
    attack = AutoPGD(target, sess=session)
    none = attack.generate_np(data.images, y=labels, eps=0.05, nb_iter=3, rand_init=False, **CLIP)
    np.testing.assert_array_equal(none[wrong], data.images[wrong])


@pytest.mark.slow
def test_results_do_not_depend_on_the_batch(session, data):
    attack = AutoPGD(ensemble(session).target(), sess=session)
    decided = one_hot(session.run(attack.model.decision(tf.constant(data.images))))
    parameters = dict(eps=0.02, nb_iter=12, **CLIP)
    index = np.arange(len(data.images))
    whole = attack.generate_np(data.images, y=decided, index=index, **parameters)
    part = slice(7, 16)
    alone = attack.generate_np(data.images[part], y=decided[part], index=index[part], **parameters)
    # Sums are rounded otherwise in other batches: a sign may flip where a gradient is rounding.
    assert np.mean(np.abs(whole[part] - alone) > 1e-5) < 0.02


@pytest.mark.slow
def test_seeds_and_indices_decide_the_start(session, data):
    attack = AutoPGD(ensemble(session).target(), sess=session)

    def start(seed, index):
        return attack.generate_np(
            data.images[:4], eps=0.1, nb_iter=1, seed=seed, index=np.array(index), **CLIP
        )

    first = start(1, [0, 1, 2, 3])
    np.testing.assert_array_equal(first, start(1, [0, 1, 2, 3]))
    assert (first != start(2, [0, 1, 2, 3])).any()
    assert (first != start(1, [4, 5, 6, 7])).any()


@pytest.mark.slow
@pytest.mark.parametrize("targeted", [False, True])
def test_it_beats_pgd_of_as_many_steps(session, data, targeted):
    target = ensemble(session).target()
    x = tf.constant(data.images)
    decided = session.run(target.decision(x))
    labels = one_hot((decided + 1) % 10 if targeted else decided)
    key = "y_target" if targeted else "y"
    eps = 0.004  # too small to succeed, so that losses can be compared

    def mean_margin(adversarial):
        values = session.run(
            losses.margin(target.get_logits(tf.constant(adversarial)), tf.constant(labels))
        )
        return -values.mean() if targeted else values.mean()

    pgd = ProjectedGradientDescent(target, sess=session).generate_np(
        data.images, eps=eps, eps_iter=eps / 4, nb_iter=30, **dict(CLIP, **{key: labels})
    )
    found = AutoPGD(target, sess=session).generate_np(
        data.images, eps=eps, nb_iter=30, loss="margin", **dict(CLIP, **{key: labels})
    )
    assert mean_margin(found) >= mean_margin(pgd) > mean_margin(data.images)


@pytest.mark.parametrize(
    "parameters, says",
    [
        (dict(ord=1), "ord=1: choose from inf, 2"),
        (dict(loss="hinge"), "loss='hinge': choose from ce, margin, dlr"),
        (dict(eps=-1.0), "eps=-1.0"),
        (dict(nb_iter=0), "nb_iter=0"),
        (dict(seed=-1), "seed=-1"),
        (dict(steps=1), "has no parameter steps"),
    ],
)
def test_bad_parameters_are_named(session, data, parameters, says):
    with pytest.raises(EmpirError, match=says):
        AutoPGD(ensemble(session).target(), sess=session).generate(
            tf.constant(data.images), **parameters
        )
