"""Fixtures of the commands' tests."""

import pytest

from empir.commands import attack, commandline
from tests.support.in_process import run_here


@pytest.fixture
def run_example(monkeypatch, capfd, tmp_path_factory):
    """Run an example script in this process: (dataset, command line, folder) -> as of a process.

    As a user without a network and with an empty home would, in the folder.
    """
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))

    def run(dataset, line, folder):
        monkeypatch.chdir(folder)
        argv = [dataset + "_attack.py"] + line.split()
        return run_here(lambda: commandline.run_main(lambda: attack.setup(dataset), argv), capfd)

    return run
