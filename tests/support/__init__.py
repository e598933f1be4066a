"""What the tests share: where the real data and the golden outputs are, and small helpers."""

import os

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHARED = os.environ.get("EMPIR_SHARED", os.path.join(os.path.dirname(ROOT), "shared"))
MNIST = os.path.join(SHARED, "data", "mnist")
CIFAR10 = os.path.join(SHARED, "data", "cifar-10-batches-bin")
IMAGENET = os.path.join(SHARED, "data", "imagenet-sample")
GOLDEN = os.path.join(ROOT, "tests", "golden")
RESULTS = os.path.join(ROOT, "results")
MEMBERS = os.path.join(ROOT, "checkpoints", "mnist")

needs_mnist = pytest.mark.skipif(
    not os.path.isdir(MNIST), reason="no MNIST files at %s (set EMPIR_SHARED)" % MNIST
)
needs_cifar10 = pytest.mark.skipif(
    not os.path.isdir(CIFAR10), reason="no CIFAR-10 files at %s (set EMPIR_SHARED)" % CIFAR10
)
needs_imagenet = pytest.mark.skipif(
    not os.path.isdir(IMAGENET), reason="no ImageNet JPEGs at %s (set EMPIR_SHARED)" % IMAGENET
)


def resident_megabytes() -> float:
    """Memory of this process now, in units of 2^20 bytes, as Linux tells it."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def one_hot(labels, classes=10):
    """float32 one-hot rows."""
    return np.eye(classes, dtype=np.float32)[np.asarray(labels)]
