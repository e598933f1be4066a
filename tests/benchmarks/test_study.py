"""The study's plan, and the command that makes its records."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.study import plan, run
from empir.commands import commandline
from empir.nn import architecture
from empir.nn.cost import network_costs
from empir.records import provenance, runs
from tests.support import MNIST, ROOT, needs_mnist
from tests.support.in_process import run_here

EVERY = [one for part in plan.PARTS for one in plan.evaluations(part)]


def _weights(network, width):
    return sum(
        row.cost.parameters for row in network_costs(architecture(network), nb_filters=width)
    )


@pytest.mark.parametrize("part", plan.PARTS)
def test_no_two_evaluations_of_a_part_have_one_name(part):
    names = [one.name for one in plan.evaluations(part)]
    assert len(names) == len(set(names)) > 0


def test_no_two_trainings_share_a_folder():
    trainings = plan.trainings(EVERY)
    assert len({(one.dataset, one.name) for one in trainings}) == len(trainings)


def test_a_shipped_member_is_taken_where_it_is_that_training():
    shipped = [one for one in plan.trainings(EVERY) if one.shipped]
    assert len(shipped) == 6
    for one in shipped:
        with open(os.path.join(ROOT, one.shipped, "training.json"), encoding="utf8") as file:
            record = json.load(file)
        assert record["seed"] == one.seed
        assert record["epochs"] == plan.EPOCHS[one.dataset]
        assert set(record["precisions"]) == {one.precision}


@pytest.mark.parametrize("dataset, network", [("mnist", "MNISTconv"), ("cifar10", "CIFARconv")])
def test_the_wide_network_has_as_many_weights_as_three_members(dataset, network):
    wanted = 3 * _weights(network, None)
    width = plan.WIDE[dataset]
    off = [abs(_weights(network, width + step) - wanted) for step in (-1, 0, 1)]
    assert off[1] == min(off)


def test_ensembles_of_one_precision_have_members_of_three_seeds():
    for one in plan.evaluations("ensembles"):
        if one.subject.startswith("three"):
            assert len({training.precision for training in one.members}) == 1
            assert len({training.seed for training in one.members}) == 3


def test_members_without_full_precision_have_no_protocol_of_the_paper():
    settings = {
        one.subject: one.setting
        for one in plan.evaluations("ensembles")
        if one.setting.endswith("-paper")
    }
    assert {subject.rpartition("-")[0] for subject in settings} == {"three-full"}


@pytest.fixture
def study(monkeypatch, capfd):
    """Run the study's command in this process: its flags -> as of a process."""

    def made(*words):
        monkeypatch.chdir(ROOT)
        return run_here(lambda: commandline.run_main(run.setup, ["study", *words]), capfd)

    return made


@pytest.mark.slow
def test_an_evaluation_is_made_once(tmp_path, study):
    words = ["--part=seeds", "--only=mnist-baseline-0-fgsm-whitebox", "--nb_samples=10"]
    words += [f"--runs={tmp_path}/runs", f"--results={tmp_path}/results", "--num_threads=1"]
    if os.path.isdir(os.path.join(ROOT, "..", "shared", "data")):
        words.append("--data_dir=../shared/data")
    assert study(*words).returncode == 0
    record = tmp_path / "results" / "seeds" / "mnist-baseline-0-fgsm-whitebox.json"
    assert json.loads(record.read_text())["num_examples"] == 10
    with np.load(str(record.with_suffix(".npz"))) as arrays:
        assert len(arrays["number"]) == 10
    before = record.stat().st_mtime_ns
    assert study(*words, "--list").stdout == ""
    assert study(*words).returncode == 0
    assert record.stat().st_mtime_ns == before


@needs_mnist
@pytest.mark.onednn
def test_a_training_made_again_has_the_same_weights(tmp_path):
    """On the same kind of processor; others round differently."""
    name = f"{plan.PROBE.dataset}-{plan.PROBE.name}.json"
    kept = runs.read_json(os.path.join(ROOT, "results", "study", "trainings", name))
    here = dict(provenance.environment(), empir=kept["environment"]["empir"])
    if here != kept["environment"]:
        pytest.skip(f"the record is of another processor or build: {kept['environment']}")
    words = ["train", *plan.PROBE.flags(), f"--model_path={tmp_path}", "--num_threads=1"]
    words += ["--noprogress", f"--data_dir={MNIST}"]
    subprocess.run([sys.executable, "-m", "empir", *words], check=True, cwd=ROOT)
    assert runs.read_json(str(tmp_path / "training.json"))["sha256"] == kept["sha256"]


def test_a_name_that_no_evaluation_has_is_refused(study):
    result = study("--only=nothing")
    assert result.returncode == 2
    assert "--only=nothing: no evaluation has such a name" in result.stderr
