"""Chunks that workers of the tests compute: numbers, and what goes wrong on the way."""

import contextlib
import os
import signal
import time

import numpy as np

from empir.evaluation import attackers

#: What a file of that name, and the number of a chunk, makes the worker do that computes the chunk.
FAULTS = {
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(1000),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


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
