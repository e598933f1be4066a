"""Two worker processes that the tests of this folder share."""

import functools
import logging

import numpy as np
import pytest

from empir import nn, runtime
from empir.cluster import connection, driver, work
from empir.data import mnist
from empir.evaluation.subjects import Source
from tests.cluster import chunks


@pytest.fixture(scope="session")
def connected():
    """A connection to two workers of one thread."""
    before = logging.getLogger("distributed").level
    made = connection.Connection("local:2")
    yield made
    made.close()
    logging.getLogger("distributed").setLevel(before)


@pytest.fixture(autouse=True, scope="module")
def network():
    """The tiny network, as long as it is used."""
    yield chunks.tiny()
    del nn.REGISTERED[chunks.NAME]


@pytest.fixture(autouse=True)
def one_thread(process_as_before):
    """Workers take the number of threads of the first work that they get."""
    runtime.configure(1, images=100)


def place(connected, **changes):
    """An `OnWorkers` of no networks and few images."""
    data = changes.pop("data", None) or mnist.load(sample=True).first(5)
    plain = dict(source=Source(chunks.NAME), data=data.describe(), count=len(data.labels))
    plain.update(load=functools.partial(mnist.load, "test", None, sample=True), images=100)
    subject = work.Subject(**dict(plain, **changes.pop("subject", {})))
    options = dict(dict(threads=1, imports=[chunks.tiny]), **changes)
    return driver.OnWorkers(connected, subject, data, **options)


def squares(made, folder, count, seconds=0.0):
    """The squares of 0, ..., 2 * count - 1 in chunks of two, which a place computes."""
    each = made.computing(None, functools.partial(chunks.squares, str(folder), seconds))
    rows = [np.arange(2 * number, 2 * number + 2) for number in range(count)]
    calls = [functools.partial(tuple, (number, rows[number])) for number in range(count)]
    return dict(each(calls))


def assert_squares(found, count):
    """All chunks are there, and right."""
    assert sorted(found) == list(range(count))
    for number, arrays in found.items():
        assert list(arrays["square"]) == [(2 * number) ** 2, (2 * number + 1) ** 2]
