"""Fixtures of all tests: sessions, drawn numbers, and a process that is as it was before."""

import logging
import os
import signal

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes that share the processors
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from empir import runtime
from empir.runtime import tf


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
