"""What the tests share: where the real data and the golden outputs are, and sessions."""

import logging
import os
import signal
import sys

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes that share the processors
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from empir import runtime
from empir.runtime import tf

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED = os.environ.get("EMPIR_SHARED", os.path.join(os.path.dirname(ROOT), "shared"))
MNIST = os.path.join(SHARED, "data", "mnist")
CIFAR10 = os.path.join(SHARED, "data", "cifar-10-batches-bin")
IMAGENET = os.path.join(SHARED, "data", "imagenet-sample")
GOLDEN = os.path.join(ROOT, "tests", "golden")
MEMBERS = os.path.join(ROOT, "checkpoints", "mnist")

sys.path.insert(0, GOLDEN)

needs_mnist = pytest.mark.skipif(
    not os.path.isdir(MNIST), reason="no MNIST files at %s (set EMPIR_SHARED)" % MNIST
)
needs_cifar10 = pytest.mark.skipif(
    not os.path.isdir(CIFAR10), reason="no CIFAR-10 files at %s (set EMPIR_SHARED)" % CIFAR10
)
needs_imagenet = pytest.mark.skipif(
    not os.path.isdir(IMAGENET), reason="no ImageNet JPEGs at %s (set EMPIR_SHARED)" % IMAGENET
)


@pytest.fixture(autouse=True)
def logging_as_before():
    """Undo what a command that ran in the test's process did to the package's logger."""
    logger = logging.getLogger("empir")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def signals_as_usual():
    """Let signals end processes, also where the tests run in the background or under nohup."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGQUIT: signal.SIG_DFL,
    }
    ignored = [number for number in usual if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def session():
    """A session on a fresh graph, both default."""
    with tf.Graph().as_default() as graph, runtime.session(graph) as session:
        yield session


@pytest.fixture
def random():
    """A NumPy generator with a fixed seed."""
    return np.random.RandomState(0)


def resident_megabytes() -> float:
    """Memory of this process now, in units of 2^20 bytes, as Linux tells it."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def one_hot(labels, classes=10):
    """float32 one-hot rows."""
    return np.eye(classes, dtype=np.float32)[np.asarray(labels)]
