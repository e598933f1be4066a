"""Deterministic weights and images on which the golden outputs were computed.

Everything is a function of a string key, so no weight file has to be stored.
NumPy only; float64 draws, cast to float32 at the end.
"""
import zlib

import numpy as np

#: Per dataset: image size, channels, classes, L-inf radius, clip range, image count,
#: (weight bits, activation bits) of model 1 and model 2. Model 3 is full precision.
DATASETS = {
    "mnist": dict(
        size=28,
        channels=1,
        classes=10,
        eps=0.3,
        clip=(0.0, 1.0),
        count=24,
        precision=((2, 4), (2, 4)),
    ),
    "cifar10": dict(
        size=32,
        channels=3,
        classes=10,
        eps=0.1,
        clip=(0.0, 1.0),
        count=24,
        precision=((4, 2), (2, 2)),
    ),
    "alexnet": dict(
        size=224,
        channels=3,
        classes=1000,
        eps=0.1,
        clip=(-2.2, 2.7),
        count=4,
        precision=((2, 2), (4, 4)),
    ),
}


def rng(key):
    return np.random.RandomState(zlib.crc32(key.encode("utf8")) & 0xFFFFFFFF)


def _draw(key, shape):
    leaf = key.rsplit("/", 1)[1]
    r = rng(key)
    if leaf in ("k", "W"):
        fan_in = int(np.prod(shape[:-1]))
        return (r.standard_normal(shape) * np.sqrt(2.0 / fan_in)).astype(np.float32)
    if leaf in ("b", "beta", "moving_mean"):
        return (0.1 * r.standard_normal(shape)).astype(np.float32)
    return r.uniform(0.5, 1.5, shape).astype(np.float32)  # gamma, moving_variance


def weight(dataset, member, variable, shape):
    """Value of one checkpoint variable.

    dataset: "mnist" | "cifar10" | "alexnet"; member: 1, 2 or 3;
    variable: its name in the released checkpoint, e.g. "lp_conv2_bin_init/k",
    "fp_ip1init/W", "lp__batchNorm3/batch_normalization/gamma".
    """
    own = "{}/model{}/{}".format(dataset, member, variable)
    common = "{}/shared/{}".format(dataset, variable[3:].replace("_bin", ""))
    a, b = _draw(common, shape), _draw(own, shape)
    if own.rsplit("/", 1)[1] in ("gamma", "moving_variance"):
        return np.float32(0.5) * a + np.float32(0.5) * b
    return np.float32(0.9) * a + np.float32(0.43) * b


def images(dataset):
    """float32 [count, size, size, channels]; [0, 1], for alexnet in its normalised range."""
    d = DATASETS[dataset]
    r = rng(dataset + "/images")
    low = r.uniform(0, 1, (d["count"], d["size"] // 4, d["size"] // 4, d["channels"]))
    x = low.repeat(4, axis=1).repeat(4, axis=2)
    x = np.clip(x + 0.1 * r.standard_normal(x.shape), 0, 1).astype(np.float32)
    return (x * 4.7 - 2.1).astype(np.float32) if dataset == "alexnet" else x


def pgd_start(dataset):
    """The random start that PGD used: uniform in [-eps, eps], shape of images(dataset)."""
    d = DATASETS[dataset]
    shape = (d["count"], d["size"], d["size"], d["channels"])
    return rng(dataset + "/pgd_start").uniform(-d["eps"], d["eps"], shape).astype(np.float32)
