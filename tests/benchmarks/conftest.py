"""Fixtures of the benchmarks' tests."""

import sys

import pytest

from empir.commands import commandline
from tests.support import ROOT
from tests.support.in_process import run_here


@pytest.fixture
def benchmark(monkeypatch, capfd):
    """Run a benchmark in this process: (module, line, folder=the checkout) -> as of a process."""

    def run(module, line, folder=ROOT):
        words = [module.__name__] + line.split()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", words)  # records name the process's command
        return run_here(lambda: commandline.run_main(module.setup, words), capfd)

    return run
