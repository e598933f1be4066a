"""Which images the commands attack: at random with each class's share, or the first ones."""

import json

import numpy as np
import pytest

from empir.data import mnist
from empir.errors import EmpirError
from empir.evaluation import suite
from tests.support.commands import COMMANDS, caller, fill

(ATTACK,) = [command for command in COMMANDS if command.name == "examples/mnist_attack.py"]
(SUITE,) = [command for command in COMMANDS if command.name == "empir robustness"]


@pytest.fixture
def attacked(tmp_path, monkeypatch, capfd):
    """The data that a suite is asked to attack by a command line, which ends there."""
    fill(tmp_path)
    call, seen = caller(tmp_path, monkeypatch, capfd), []

    def run(setting, *arguments, **keywords):
        seen.append(setting.data)
        raise EmpirError("enough")

    monkeypatch.setattr(suite, "run", run)

    def data(command, line):
        outcome = call(command, line.split())
        assert outcome.stderr.endswith("error: enough\n"), outcome.stderr
        return seen.pop().describe()

    return data


LINE = "--sample --members=fp:model3 --eps=1/255 --nb_samples=20 --out=out --nb_filters=4 "


@pytest.mark.parametrize(
    "flags, chosen",
    [
        ("", lambda sample: sample.subset(20)),
        ("--subset_seed=3", lambda sample: sample.subset(20, seed=3)),
        ("--subset=first", lambda sample: sample.first(20)),
    ],
)
def test_the_suite_attacks_a_stratified_subset(attacked, flags, chosen):
    assert attacked(SUITE, LINE + flags) == chosen(mnist.load(sample=True)).describe()


@pytest.mark.parametrize("begun_with", ["first", "subset"])
def test_a_run_goes_on_with_the_images_that_it_was_begun_with(attacked, tmp_path, begun_with):
    data = getattr(mnist.load(sample=True), begun_with)(20).describe()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(json.dumps({"data": data}))
    assert attacked(SUITE, LINE) == data


@pytest.mark.slow
def test_the_scripts_attack_the_first_images_unless_told_otherwise(tmp_path, monkeypatch, capfd):
    fill(tmp_path)
    sample, call = mnist.load(sample=True), caller(tmp_path, monkeypatch, capfd)
    np.savez(str(tmp_path / "own.npz"), images=sample.images, labels=sample.labels)
    for number, (flags, chosen) in enumerate(
        [("", sample.first(20)), ("--subset=stratified --subset_seed=3", sample.subset(20, 3))]
    ):
        line = "--model_path=model3 --attack=fgsm --data=own.npz --nb_samples=20 --nb_filters=4 "
        line += "--noprogress --out=out%d %s" % (number, flags)
        assert call(ATTACK, line.split()).returncode == 0
        told = json.loads((tmp_path / ("out%d" % number) / "result.json").read_text())["data"]
        assert told["sha256"] == chosen.digest() and told.items() >= chosen.chosen.items()
    outcome = call(ATTACK, line.split() + ["--subset=random"])
    assert (
        outcome.returncode == 2
        and "--subset=random: choose from stratified, first" in outcome.stderr
    )
