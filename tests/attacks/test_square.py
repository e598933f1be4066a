"""The square attack: its squares, its bounds, and that it needs no gradient."""

import numpy as np
import pytest
from cleverhans.model import Model

from empir.attacks import square
from empir.attacks.base import ModelWithLoss
from empir.attacks.square import SquareAttack
from empir.errors import EmpirError
from empir.runtime import tf
from tests.attacks.test_attacks import Linear
from tests.support import one_hot

CLIP = dict(clip_min=0.0, clip_max=1.0)


class Step(Model):
    """A classifier whose logits are piecewise constant: every gradient is zero."""

    def __init__(self, w):
        super().__init__()
        self.w = tf.constant(w, tf.float32)

    def fprop(self, x):
        scores = tf.matmul(tf.reshape(x, [-1, self.w.shape[0].value]), self.w)
        return {"logits": tf.stop_gradient(tf.round(20 * scores) / 20)}


@pytest.fixture
def problem(random):
    """(weights, images, labels) of a linear classifier with two classes."""
    w = random.normal(size=(64, 2))
    images = random.uniform(0.3, 0.7, size=(6, 8, 8, 1)).astype(np.float32)
    return w, images, (images.reshape(6, -1) @ w).argmax(axis=1)


def test_squares_shrink_as_in_the_paper():
    found = square.sides(10000, 0.8, 28, 28)
    # sqrt(0.8 * 784), halved areas after 10, 50, 200, ... queries of 10,000.
    assert [found[q] for q in (0, 10, 11, 51, 201, 8001)] == [25, 25, 18, 13, 9, 1]
    assert sorted(found, reverse=True) == found
    assert square.sides(3, 1.0, 4, 6) == [4, 1, 1]


def test_a_square_is_one_and_of_one_sign_per_channel(session):
    """Seen where the square of the only query has another sign than the stripes before it."""

    class Rising(ModelWithLoss):
        """Each image has a higher loss than the one before, and none is adversarial."""

        scored = 0

        def fprop(self, x):
            return {"logits": tf.zeros([tf.shape(x)[0], 2])}

        def score(self, image, labels):
            self.scored += 1
            value = tf.fill(tf.shape(image)[:1], float(self.scored))
            return value, tf.zeros_like(value, tf.bool)

    class Flat(Rising):
        """All images have the same loss, so that no square is kept."""

        def score(self, image, labels):
            value, success = super().score(image, labels)
            return tf.zeros_like(value), success

    images, labels = np.full((200, 8, 9, 2), 0.5, np.float32), one_hot(np.zeros(200, int), 2)
    parameters = dict(y=labels, eps=0.2, nb_iter=1, p_init=3 * 3 / 72, seed=3, **CLIP)
    stripes, squared = (
        SquareAttack(model(), sess=session).generate_np(images, **parameters)
        for model in (Flat, Rising)
    )
    assert (stripes == stripes[:, :1]).all()
    corners = []
    for before, after in zip(stripes, squared):
        rows, columns, _ = np.nonzero(before != after)
        if len(rows):
            assert np.ptp(rows) == 2 and np.ptp(columns) <= 2
            assert all(len(np.unique(c[c != b])) <= 1 for b, c in zip(before.T, after.T))
            corners.append((rows.min(), rows.max(), columns.min(), columns.max()))
    # Squares of 3 are drawn wherever they fit, and nowhere else.
    top, bottom, left, right = np.transpose(corners)
    assert set(top) == set(range(6)) and bottom.max() == 7
    assert left.min() == 0 and right.max() == 8 and len(set(left)) >= 7


def test_it_fools_a_network_without_gradients(session, problem):
    w, images, labels = problem
    attack = SquareAttack(Step(w), sess=session)
    found = attack.generate_np(images, y=one_hot(labels, 2), eps=0.2, nb_iter=300, **CLIP)
    assert ((found.reshape(6, -1) @ w).argmax(axis=1) != labels).all()
    assert np.abs(found - images).max() <= 0.2 + 1e-6


@pytest.mark.slow
def test_more_queries_lead_further(session, problem):
    w, images, labels = problem
    attack = SquareAttack(Linear(w), sess=session)
    leads = []
    for queries in (1, 20, 400):
        found = attack.generate_np(images, y=one_hot(labels, 2), eps=1e-3, nb_iter=queries, **CLIP)
        scores = found.reshape(6, -1) @ w
        leads.append(scores[range(6), 1 - labels] - scores[range(6), labels])
    assert (leads[1] >= leads[0]).all() and (leads[2] > leads[1]).all()
    # No further than the corner of the ball.
    clean = images.reshape(6, -1) @ w
    best = clean[range(6), 1 - labels] - clean[range(6), labels]
    best += 1e-3 * np.abs(w[:, 0] - w[:, 1]).sum()
    assert (leads[2] <= best + 1e-5).all()
    assert np.mean((leads[2] - leads[0]) / (best - leads[0])) > 0.5


@pytest.mark.slow
@pytest.mark.onednn  # Eigen's products round otherwise for batches of other sizes
def test_results_do_not_depend_on_the_batch(session, problem):
    w, images, labels = problem
    attack = SquareAttack(Linear(w), sess=session)
    parameters = dict(eps=0.05, nb_iter=30, seed=4, **CLIP)
    index = np.arange(6)
    whole = attack.generate_np(images, y=one_hot(labels, 2), index=index, **parameters)
    part = slice(2, 5)
    alone = attack.generate_np(
        images[part], y=one_hot(labels[part], 2), index=index[part], **parameters
    )
    np.testing.assert_array_equal(whole[part], alone)
    other = attack.generate_np(
        images, y=one_hot(labels, 2), index=index, **dict(parameters, seed=5)
    )
    assert (other != whole).any()


@pytest.mark.parametrize(
    "parameters, says",
    [
        (dict(y_target=np.eye(2, dtype="f")), "untargeted"),
        (dict(clip_min=None, clip_max=None), "needs the range"),
        (dict(p_init=1.5), "p_init=1.5"),
        (dict(nb_iter=0), "nb_iter=0"),
        (dict(eps=-1.0), "eps=-1.0"),
        (dict(seed=-1), "seed=-1"),
    ],
)
def test_bad_parameters_are_named(session, problem, parameters, says):
    attack = SquareAttack(Linear(problem[0]), sess=session)
    with pytest.raises(EmpirError, match=says):
        attack.generate(tf.constant(problem[1][:2]), **parameters)
