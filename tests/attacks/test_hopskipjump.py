"""HopSkipJump sees decisions only, and finds what is close to the boundary."""

import logging

import numpy as np
import pytest

from empir.attacks.hopskipjump import HopSkipJump
from empir.evaluation import suite
from empir.evaluation.specs import AttackSpec
from tests.support.known import Case, arrays

pytestmark = pytest.mark.slow  # it runs whole evaluations


def attack(decide, eps, order):
    """An attack on one image of 4x4x1 with two classes: (image, label, start, seed) -> image."""

    def search(image, label, start, seed):
        parameters = dict(eps=eps, ord=order, iterations=15, seed=seed, clip_min=-1.0, clip_max=1.0)
        attack = HopSkipJump(decide, 2, **parameters)
        return attack.search(image[None], [label], start[None], [0])[0]

    return search


def bright(images):
    """Class 1 of images whose mean is above zero."""
    return (images.mean(axis=(1, 2, 3)) > 0).astype(int)


@pytest.mark.parametrize("order, least", [(np.inf, 0.25), (2, 1.0)])
def test_it_gets_close_to_the_boundary(order, least):
    image = np.full((4, 4, 1), -0.25, np.float32)
    start = np.ones_like(image)
    found = attack(bright, 1e-3, order)(image, 0, start, 5)
    assert found.dtype == np.float32 and bright(found[np.newaxis])[0] == 1
    assert np.linalg.norm((found - image).ravel(), order) < 1.2 * least
    again = attack(bright, 1e-3, order)(image, 0, start, 5)
    np.testing.assert_array_equal(found, again)


def test_it_stops_inside_the_ball():
    asked = []

    def decide(images):
        asked.append(len(images))
        return bright(images)

    image = np.full((4, 4, 1), -0.25, np.float32)
    found = attack(decide, 0.6, np.inf)(image, 0, np.ones_like(image), 5)
    assert np.abs(found - image).max() <= 0.6 and sum(asked) < 100


def test_a_start_that_is_classified_correctly_leaves_the_image():
    image = np.full((4, 4, 1), -0.25, np.float32)
    found = attack(bright, 0.6, np.inf)(image, 0, np.full_like(image, -0.5), 5)
    np.testing.assert_array_equal(found, image)


def test_it_says_nothing(capfd, caplog):
    caplog.set_level(logging.INFO)
    image = np.full((4, 4, 1), -0.25, np.float32)
    attack(bright, 0.6, np.inf)(image, 0, np.ones_like(image), 5)
    logging.info("heard")
    assert capfd.readouterr().out == "" and [r.getMessage() for r in caplog.records] == ["heard"]


def test_numpys_generator_is_left_alone():
    np.random.seed(3)
    expected = np.random.RandomState(3).uniform()
    image = np.full((4, 4, 1), -0.25, np.float32)
    attack(bright, 0.6, np.inf)(image, 0, np.ones_like(image), 5)
    assert np.random.uniform() == expected


@pytest.mark.parametrize("batch_size", [3, 16])
def test_in_a_suite_only_images_inside_the_ball_are_successes(tmp_path, batch_size):
    case = Case(np.random.RandomState(3))
    spec = AttackSpec("hopskipjump", "hopskipjump", steps=5, images=8)
    setting = case.setting(eps=0.05, batch_size=batch_size)
    suite.run(setting, str(tmp_path), [spec], progress=False, analyses=False)
    found = arrays(str(tmp_path), "hopskipjump")
    assert len(found["row"]) == 8
    wrong = case.logits(found["adversarial"]).argmax(axis=1) != case.data.labels[found["row"]]
    assert wrong.all()
    np.testing.assert_array_equal(found["success"], found["linf"] <= 0.05 * (1 + 1e-5))
    assert found["success"].any() and not found["success"].all()
