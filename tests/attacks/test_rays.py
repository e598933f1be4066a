"""RayS: distances that are known, its queries, and networks that it must be able to fool."""

import numpy as np
import pytest

from empir.attacks.rays import RayS
from empir.data import mnist
from empir.errors import EmpirError
from empir.evaluation import suite
from empir.evaluation.specs import AttackSpec
from tests.support.known import Case, arrays

SHAPE = (4, 4, 3)


def linear(w, biases=(0.0,)):
    """Decision by vote of linear members: each says 1 where w . x + bias > 0."""

    def decide(images):
        scores = images.reshape(len(images), -1) @ w.ravel()
        votes = sum((scores + bias > 0).astype(int) for bias in biases)
        return (2 * votes > len(biases)).astype(int)

    return decide


@pytest.fixture
def weights(random):
    """Weights of either sign, as large as one another within a factor of three."""
    return random.choice([-1, 1], size=SHAPE) * random.uniform(0.5, 1.5, size=SHAPE)


@pytest.fixture
def images(random):
    return random.uniform(-0.3, 0.3, size=(6,) + SHAPE).astype(np.float32)


def attacked(decide, images, index=None, **parameters):
    """(adversarial images, their distances, the attack), labels being today's decisions."""
    parameters = dict(dict(eps=0.0, queries=3000, clip_min=-9.0, clip_max=9.0), **parameters)
    attack = RayS(decide, 2, **parameters)
    found = attack.search(images, decide(images), index=index)
    return found, np.abs(found - images).max(axis=(1, 2, 3)), attack


@pytest.mark.parametrize("biases", [(0.0,), (-0.5, 0.0, 0.5), (-3.0, 2.0, 0.7)])
def test_it_finds_the_distance_of_a_linear_boundary(biases, weights, images):
    decide = linear(weights, biases)
    found, distances, _ = attacked(decide, images)
    # The vote of three parallel boundaries changes at the middle one.
    scores = images.reshape(6, -1) @ weights.ravel() + sorted(biases)[len(biases) // 2]
    least = np.abs(scores) / np.abs(weights).sum()
    assert (decide(found) != decide(images)).all() and found.dtype == np.float32
    assert (distances >= least - 1e-6).all()  # float32
    assert (distances <= least + 2e-4).all()  # twice a binary search's tolerance


def test_it_ends_where_an_image_is_inside_the_ball(weights, images):
    decide = linear(weights)
    _, least, thorough = attacked(decide, images)
    eps = float(np.median(least) * 1.5)
    found, distances, quick = attacked(decide, images, eps=eps)
    inside = distances <= eps + 1e-6
    assert inside.any() and (decide(found) != decide(images)).all()
    np.testing.assert_array_equal(inside, least <= eps)
    assert quick.counts[inside].max() < thorough.counts.min() / 2


@pytest.mark.parametrize("queries", [1, 2, 40, 333])
def test_queries_are_counted_and_bounded(queries, weights, images):
    decide, sizes = linear(weights), []

    def counting(batch):
        sizes.append(len(batch))
        return decide(batch)

    attack = RayS(counting, 2, eps=0.0, queries=queries, clip_min=-9.0, clip_max=9.0)
    attack.search(images, decide(images))
    np.testing.assert_array_equal(attack.counts, [queries] * len(images))
    assert sum(sizes) == queries * len(images)
    assert max(sizes) == len(images)  # images are asked about together


@pytest.mark.parametrize("rand_init", [False, True])
def test_results_do_not_depend_on_the_batch(rand_init, weights, images):
    decide, part = linear(weights), slice(2, 5)
    parameters = dict(queries=60, rand_init=rand_init, seed=7)
    whole, _, attack = attacked(decide, images, index=np.arange(10, 16), **parameters)
    alone, _, _ = attacked(decide, images[part], index=np.arange(12, 15), **parameters)
    np.testing.assert_array_equal(whole[part], alone)
    other, _, _ = attacked(decide, images, index=np.arange(10, 16), **dict(parameters, seed=8))
    assert (other != whole).any() == rand_init
    assert len(attack.counts) == len(images)


def test_images_that_nothing_fools_and_misclassified_ones_are_left_alone(images):
    labels = np.array([0, 0, 0, 1, 1, 1])
    attack = RayS(lambda batch: np.zeros(len(batch), int), 2, eps=0.1, queries=25)
    clipped = np.clip(images, 0, 1)
    np.testing.assert_array_equal(attack.search(clipped, labels), clipped)
    np.testing.assert_array_equal(attack.counts, [25, 25, 25, 1, 1, 1])


def test_images_stay_in_their_range(weights, random):
    images = random.uniform(size=(6,) + SHAPE).astype(np.float32)
    found, _, _ = attacked(linear(weights), images, clip_min=0.0, clip_max=1.0, queries=200)
    assert found.min() >= 0 and found.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [3, 16])
def test_in_a_suite_it_succeeds_inside_the_ball(tmp_path, batch_size):
    case = Case(np.random.RandomState(3))
    spec = AttackSpec("rays", "rays", steps=60, images=8)
    setting = case.setting(eps=0.05, batch_size=batch_size)
    suite.run(setting, str(tmp_path), [spec], progress=False, analyses=False)
    found = arrays(str(tmp_path), "rays")
    wrong = case.logits(found["adversarial"]).argmax(axis=1) != case.data.labels[found["row"]]
    near = found["linf"] <= 0.05 * (1 + 1e-5)
    np.testing.assert_array_equal(found["success"], wrong & near)
    assert found["success"].any()


def trained_network(images, labels, random):
    """Decisions of a network of one hidden layer, trained here by gradient descent in NumPy."""
    flat, rate = images.reshape(len(images), -1), 0.5
    first, second = 0.05 * random.normal(size=(784, 32)), 0.3 * random.normal(size=(32, 10))
    for _ in range(100):
        hidden = np.maximum(flat @ first, 0)
        scores = np.exp(hidden @ second - (hidden @ second).max(axis=1, keepdims=True))
        slope = (scores / scores.sum(axis=1, keepdims=True) - np.eye(10)[labels]) / len(flat)
        first -= rate * flat.T @ (slope @ second.T * (hidden > 0))
        second -= rate * hidden.T @ slope

    def decide(batch):
        return (np.maximum(batch.reshape(len(batch), -1) @ first, 0) @ second).argmax(axis=1)

    return decide


def test_it_fools_a_trained_network(random):
    data = mnist.load(sample=True).first(400)
    decide = trained_network(data.images, data.labels, random)
    right = decide(data.images) == data.labels
    assert right.mean() > 0.85
    images, labels = data.images[right][:50], data.labels[right][:50]
    found = RayS(decide, 10, eps=0.2, queries=300).search(images, labels)
    near = np.abs(found - images).max(axis=(1, 2, 3)) <= 0.2 + 1e-6
    wrong = decide(found) != labels
    assert (near & wrong).mean() > 0.8
    # As many changed pixels of random sign fool it less.
    noise = np.clip(images + 0.2 * random.choice([-1, 1], size=images.shape), 0, 1)
    assert (decide(noise) != labels).mean() < 0.2


@pytest.mark.parametrize(
    "parameters, says",
    [
        (dict(radius=1), "no parameter radius"),
        (dict(queries=0), "queries=0"),
        (dict(eps=-1.0), "eps=-1.0"),
        (dict(tolerance=0.0), "tolerance=0.0"),
    ],
)
def test_bad_parameters_are_named(parameters, says):
    with pytest.raises(EmpirError, match=says):
        RayS(None, 2, **parameters)
