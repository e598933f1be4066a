"""Differences of accuracies over trainings and images, and McNemar's exact test."""

import numpy as np
import pytest
from scipy import stats

from empir.errors import EmpirError
from empir.evaluation.scores import Paired, difference, paired


def cells(random, trainings, images, of_trainings, of_images):
    """Which images are correct, as often as a training's and an image's share together say."""
    shares = 0.5 + of_trainings * random.randn(trainings, 1) + of_images * random.randn(1, images)
    return random.uniform(size=(trainings, images)) < np.clip(shares, 0, 1)


def test_where_images_do_not_matter_it_is_students_interval_over_trainings():
    first = np.zeros((4, 6), bool)
    first[:2] = True  # differences of 100, 100, 0 and 0 points, whatever the image
    found = difference(first, np.zeros_like(first))
    low, high = stats.t.interval(0.95, 3, loc=50, scale=stats.sem([100, 100, 0, 0]))
    assert found.points == 50 and found.interval == pytest.approx((low, high))
    assert (found.trainings, found.images) == (4, 6)


def test_where_trainings_do_not_matter_it_is_the_interval_over_images():
    images = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    first = np.tile(images, (5, 1))
    found = difference(first, np.zeros_like(first))
    low, high = stats.t.interval(0.95, 7, loc=37.5, scale=stats.sem(100 * images))
    assert found.interval == pytest.approx((low, high))


def test_equal_evaluations_do_not_differ():
    same = np.eye(3, 5) > 0
    found = difference(same, same)
    assert found.points == 0 and found.interval == (0, 0)


@pytest.mark.parametrize("of_trainings, of_images", [(0.0, 0.0), (0.1, 0.1), (0.05, 0.3)])
def test_the_interval_has_the_true_difference_as_often_as_it_says(of_trainings, of_images):
    random, inside, draws = np.random.RandomState(1), 0, 400
    for _ in range(draws):
        first, second = (cells(random, 5, 100, of_trainings, of_images) for _ in range(2))
        low, high = difference(first, second).interval
        inside += low <= 0 <= high
    assert inside / draws > 0.95 - 3 * np.sqrt(0.95 * 0.05 / draws)
    assert inside < draws  # it is not infinitely wide


@pytest.mark.parametrize("shapes", [((5, 4), (5, 3)), ((1, 4), (1, 4)), ((4,), (4,))])
def test_other_shapes_are_an_error(shapes):
    first, second = (np.zeros(shape, bool) for shape in shapes)
    with pytest.raises(EmpirError, match="give two of .trainings, images."):
        difference(first, second)


@pytest.mark.parametrize(
    "only, p",
    [((0, 0), 1), ((1, 1), 1), ((0, 5), 2 / 2**5), ((9, 1), 2 * (1 + 10) / 2**10)],
)
def test_mcnemars_exact_test_counts_the_images_that_differ(only, p):
    both = [True, True, False]
    first = np.array(both + [True] * only[0] + [False] * only[1])
    second = np.array(both + [False] * only[0] + [True] * only[1])
    assert paired(first, second) == Paired(3 + sum(only), *only, pytest.approx(p))
    with pytest.raises(EmpirError, match="not the same"):
        paired(first, second[1:])
