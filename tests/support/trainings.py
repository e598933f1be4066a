"""Short trainings of narrow networks, and how to kill them."""

import contextlib

import numpy as np
import pytest

from empir.data import Dataset
from empir.nn import Architecture, architecture
from empir.nn.precision import FULL, per_layer
from empir.training import Settings


def settings(precision=FULL, **changes):
    """A narrow network trained for two epochs."""
    plain = dict(
        network=architecture("MNISTconv"),
        precisions=per_layer(precision, 3),
        options={"nb_filters": 4},
        epochs=2,
        batch_size=64,
        learning_rate=0.003,
        seed=5,
    )
    return Settings(**dict(plain, **changes))


@contextlib.contextmanager
def killed_after(monkeypatch, steps: int):
    """The training inside dies before its next step."""
    stream, taken = Dataset.stream, []

    def mortal(data, *arguments):
        for batch in stream(data, *arguments):
            if len(taken) == steps:
                raise KeyboardInterrupt
            taken.append(batch)
            yield batch

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Dataset, "stream", mortal)
        yield


def difference(arrays, others) -> float:
    """Largest difference of two trainings' weights."""
    return max(np.abs(arrays[name] - others[name]).max() for name in arrays)


def _normalised(build, x, f):
    x = build.conv(x, "conv1", f, 5, strides=3)
    x = build.position_bias(x, "conv1_bias")
    x = build.batch_norm(x, "bn1")
    x = build.relu(x, "relu1")
    x = build.flatten(x)
    x = build.linear(x, "fc1", 8, use_bias=True)
    x = build.batch_norm(x, "bn2")
    return build.linear(x, "logits", 10, use_bias=True)


#: A small network with batch normalisation after a convolution and after a linear layer.
NORMALISED = Architecture(
    name="normalised",
    layers=_normalised,
    input_shape=(28, 28, 1),
    num_classes=10,
    quantized_layers=("fc1",),
    nb_filters=4,
    released_names={
        family: {
            name: family + "_" + name
            for name in ["conv1/kernel", "conv1_bias/bias", "fc1/kernel", "fc1/bias"]
            + ["logits/kernel", "logits/bias"]
            + [
                "bn%d/%s" % (number, name)
                for number in (1, 2)
                for name in ("gamma", "beta", "moving_mean", "moving_variance")
            ]
        }
        for family in ("fp", "lp")
    },
)

#: A network without a hidden layer, whose training is begun and ended in a moment.
LINEAR = Architecture(
    name="linear",
    layers=lambda build, x, _: build.linear(build.flatten(x), "logits", 10),
    input_shape=(28, 28, 1),
    num_classes=10,
    quantized_layers=(),
    nb_filters=10,
    released_names={family: {"logits/kernel": family + "_logits"} for family in ("fp", "lp")},
)


def linear(**changes):
    """Settings of a training of `LINEAR`: an epoch of two steps on 40 images."""
    plain = dict(network=LINEAR, precisions=(), options={}, epochs=1, batch_size=20)
    return settings(**dict(plain, **changes))
