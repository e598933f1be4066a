"""Fixtures of all tests: sessions, drawn numbers, and a process that is as it was before."""

import gc
import os
import re
import signal
import sys

import numpy as np
import pytest

from empir import runtime
from empir.commands import main
from empir.commands.process import GARBAGE
from empir.runtime import tf
from tests.support import ROOT
from tests.support.in_process import logging_as_before, run_here

#: Folders and files of the tests of what oneDNN's kernels, or its passes over graphs, may change:
#: the arithmetic of networks, the engine and whole programs. Single tests elsewhere are marked.
ONEDNN = re.compile(
    r"tests/(nn/test_(golden|alexnet|random_weights)|fast|export/test_pytorch"
    r"|benchmarks/test_throughput"
    r"|commands/test_(cifar10_)?script|test_(aborts|original|runtime))"
)


def pytest_configure():
    """Let signals end processes, also where the tests run in the background or under nohup.

    xdist's workers inherit it. They may run tests in a thread, where no signal can be set.
    """
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGQUIT: signal.SIG_DFL,
    }
    for number, handler in usual.items():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_ignore_collect(path, config):
    """Leave files alone that hold none of the tests that are asked for: reading all takes long."""
    if not (config.option.markexpr.startswith("onednn") and path.ext == ".py"):
        return None
    name = path.relto(ROOT).replace(os.sep, "/")
    return not (ONEDNN.match(name) or "mark.onednn" in path.read_text("utf-8")) or None


def pytest_collection_modifyitems(items):
    """Mark the tests that need oneDNN."""
    gc.freeze()  # the modules and tests that are there stay: collections need not look at them
    gc.set_threshold(*GARBAGE)  # as of a command
    for item in items:
        if ONEDNN.match(item.nodeid):
            item.add_marker(pytest.mark.onednn)


@pytest.fixture(autouse=True)
def process_as_before():
    """Undo what a command that ran in the test's process did to it."""
    environment = dict(os.environ)
    with logging_as_before():
        yield
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def empir_command(monkeypatch, capfd):
    """Run `empir LINE` in this process: (line, folder=the checkout) -> as of a process."""

    def run(line, folder=ROOT):
        monkeypatch.chdir(folder)
        # Records name the process's command.
        monkeypatch.setattr(sys, "argv", ["empir"] + line.split())
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
        return run_here(main.main, capfd)

    return run


@pytest.fixture
def session():
    """A session on a fresh graph, both default."""
    with tf.Graph().as_default() as graph, runtime.session(graph) as session:
        yield session


@pytest.fixture
def random():
    """A NumPy generator with a fixed seed."""
    return np.random.RandomState(0)
