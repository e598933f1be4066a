"""What workers of the tests compute: a tiny network, numbers, and what goes wrong on the way."""

import contextlib
import os
import signal
import time

import numpy as np

from empir import nn
from empir.evaluation import attackers
from empir.models import checkpoints
from empir.nn.precision import FULL, Precision
from empir.runtime import tf

NAME, LOW = "TinyNetwork", Precision(2, 4)

#: What a file of that name, and the number of a chunk, makes the worker do that computes the chunk.
FAULTS = {
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(4),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


def tiny() -> nn.Architecture:
    """A network whose graphs take little time, added to the table by its `NAME`."""
    if NAME not in nn.REGISTERED:
        fields = dict(input_shape=(28, 28, 1), num_classes=10, quantized_layers=("conv",))
        nn.register(NAME, _tiny, nb_filters=2, **fields)
    return nn.REGISTERED[NAME]


def _tiny(build, x, filters):
    x = build.relu(build.conv(x, "conv", filters, 7, strides=7), "relu")
    return build.linear(build.flatten(x), "logits", 10)


def save_tiny(folder):
    """Save drawn weights of the network as the folders low and full."""
    for name, precision in (("low", LOW), ("full", FULL)):
        with tf.Graph().as_default(), tf.Session() as session:
            model = tiny().build(precision, seed=1)
            session.run([variable.initializer for variable in model.weights])
            arrays = checkpoints.released_arrays(tiny(), (precision,), model, session)
        checkpoints.save(os.path.join(str(folder), name), arrays)


@contextlib.contextmanager
def squares(folder, seconds, open, data):
    """What computes the squares of a chunk's numbers; see `places.Place.computing`.

    Args:
      folder: holds the files of `FAULTS`, each of which is removed as it is met, and files "fail"
        and the number of a chunk, which stay.
      seconds: that a chunk takes.
      open, data: not used.
    """

    def compute(number, rows):
        for name, fault in FAULTS.items():
            path = os.path.join(folder, f"{name}-{number}")
            if os.path.exists(path):
                os.remove(path)
                fault()
        if os.path.exists(os.path.join(folder, f"fail-{number}")):
            raise OSError("the disk of this worker is full")
        time.sleep(seconds)
        return {"square": rows**2, "seconds": np.array([seconds])}

    yield compute


@contextlib.contextmanager
def digests(open, data):
    """What computes the digests of the networks and images that there are."""

    def compute():
        with open() as networks:
            found = np.array(attackers.digests(networks))
        return {"networks": found, "images": np.array(data.digest()), "seconds": np.zeros(1)}

    yield compute
