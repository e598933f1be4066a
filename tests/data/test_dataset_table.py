"""Datasets that are registered: what is loaded must be what their row says."""

import numpy as np
import pytest

from empir import data
from empir.commands import shared_flags
from empir.errors import DataError, EmpirError
from empir.experiments import EXPERIMENTS, experiment


def load(split="test", folder=None, shape=(2, 28, 28, 1), value=0.5):
    """Two grey images."""
    images = np.full(shape, value, np.float32)
    return data.Dataset("grey", split, images, np.zeros(2, np.int64), 10, (0.0, 1.0), "memory")


@pytest.fixture
def register():
    """`data.register`, which the test's end undoes."""
    before = dict(data.DATASETS)
    yield data.register
    data.DATASETS.clear()
    data.DATASETS.update(before)


def test_a_registered_dataset_has_the_network_and_defaults_of_its_shape(register):
    register("grey", load, (28, 28, 1), eps=0.2)
    chosen = experiment("grey")
    assert (chosen.architecture, chosen.eps) == ("MNISTconv", 0.2)
    assert chosen.nb_epochs == EXPERIMENTS["mnist"].nb_epochs
    assert chosen.data.open("test").images.shape == (2, 28, 28, 1)


@pytest.mark.parametrize(
    "row, loaded, says",
    [
        ({"shape": (28, 28, 1)}, {"shape": (2, 8, 8, 1)}, r"loaded were images \(8, 8, 1\)"),
        ({"shape": (28, 28, 1), "clip_range": (-1, 1)}, {}, r"registered are .* -1..1"),
        ({"shape": (28, 28, 1)}, {"value": 2.0}, r"image 0 holds NaN or values outside"),
    ],
)
def test_images_that_are_not_what_was_registered_are_refused(register, row, loaded, says):
    row = register("grey", lambda split, folder: load(split, folder, **loaded), **row)
    with pytest.raises(DataError, match=says):
        row.open("test")


@pytest.mark.parametrize(
    "row, says",
    [
        ({"shape": (9, 9, 1)}, "no network takes images"),
        ({"shape": (28, 28, 1), "num_classes": 3}, "in 3 classes, but MNISTconv takes .* in 10"),
    ],
)
def test_a_dataset_without_a_network_is_refused(register, row, says):
    register("grey", load, **row)
    with pytest.raises(EmpirError, match=says):
        experiment("grey")


def test_names_are_taken_once(register):
    with pytest.raises(EmpirError, match="'mnist' cannot be added"):
        register("mnist", load, (28, 28, 1))


@pytest.mark.parametrize(
    "text, says",
    [
        ("svhn", "--dataset=svhn: choose from mnist, cifar10, imagenet, or give FILE.py:NAME"),
        ("os:sep", "--dataset=os:sep is no dataset: name what data.register returns"),
        ("missing.py:ROW", "--dataset=missing.py:ROW cannot be imported"),
    ],
)
def test_a_dataset_that_there_is_not_is_refused(text, says):
    with pytest.raises(EmpirError, match=says):
        shared_flags.chosen_experiment(text)
