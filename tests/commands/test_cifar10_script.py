"""The CIFAR-10 script: the original's commands, its flags' names and defaults, its training."""

import hashlib
import json
import os

import numpy as np
import pytest

from empir.data import cifar10
from empir.models import checkpoints
from empir.nn import architecture
from empir.nn.precision import Precision
from empir.training import train
from tests.support import CIFAR10, needs_cifar10
from tests.support.pinned import assert_pinned
from tests.support.released import narrow, save_members
from tests.support.scripts import readme_record
from tests.support.trainings import settings

SMALL = " --nb_filters=4 --nb_samples=20 --attack_iterations=3 --data_dir=" + CIFAR10


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """A folder with the checkpoints of an ensemble."""
    folder = str(tmp_path_factory.mktemp("members"))
    save_members(folder, "CIFARconv")
    return folder


@pytest.fixture
def script(run_example):
    """Run the CIFAR-10 script in this process: (command line, folder) -> as of a process."""
    return lambda line, folder: run_example("cifar10", line, folder)


#: The two commands of the original's README, with short paths.
README = {
    "ensemble": "--abits=2 --wbits=4 --abits2=2 --wbits2=2 --model_path1=model1 "
    "--model_path2=model2 --model_path3=model3 --ensembleThree",
    "baseline": "--model_path=model3",
}
BITS = {"ensemble": [(4, 2), (2, 2), (None, None)], "baseline": [(None, None)]}


@pytest.mark.slow
@needs_cifar10
@pytest.mark.parametrize("name", README)
def test_the_originals_commands(script, members, tmp_path, name):
    out = tmp_path / "out"
    _, record = readme_record(script, README[name] + SMALL, members, out, BITS[name])
    assert (record["dataset"], record["architecture"]) == ("cifar10", "CIFARconv")
    assert (record["seed"], record["data"]["source"]) == (1234, "whole split")
    assert record["members"][-1]["sha256"] == checkpoints.digest(
        narrow("fp", seed=3, network="CIFARconv")
    )
    assert_pinned("cifar10_attack " + name, out)


@pytest.mark.slow
@needs_cifar10
@pytest.mark.parametrize("option", ["--stocRound", "--stocRound --engine"])
def test_networks_that_draw_at_random_are_attacked(script, members, option):
    """oneDNN's pass aborted the process on the engine's graph of kernels drawn in it."""
    line = "--lowprecision --wbits=4 --abits=2 --model_path=model1 --attack=fgsm --nb_filters=4 "
    process = script(line + "--nb_samples=1 --data_dir=%s %s" % (CIFAR10, option), members)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    "line, says",
    [
        (README["baseline"] + " --lr=0.1", "lr"),
        (README["baseline"], "CIFAR-10 could not be downloaded"),
        (README["baseline"] + " --data_dir=model1", "model1 holds no CIFAR-10"),
        (README["baseline"].replace("3", "1") + " --data_dir=missing", "missing is neither"),
    ],
)
def test_bad_input_is_one_line(script, members, line, says):
    process = script(line, members)
    assert (process.returncode, process.stdout) == (2, "")
    lines = process.stderr.splitlines()
    assert [line for line in lines if not line.startswith("Downloading")] == lines[-1:]
    assert lines[-1].startswith("error: ") and says in lines[-1]


def small_cifar10(monkeypatch, folder):
    """Two hundred images per file as if they were CIFAR-10, in a folder."""
    random = np.random.RandomState(0)
    monkeypatch.setattr(cifar10, "PER_FILE", 200)
    for name in cifar10.FILES["train"] + cifar10.FILES["test"]:
        labels = random.randint(0, 10, (200, 1))
        # A class is the height of a bright band: a network learns it in a few steps.
        pixels = random.randint(0, 64, (200, 3, 32, 32))
        bright = np.abs(np.arange(32) - 3 * labels - 2)[:, np.newaxis, :, np.newaxis] < 3
        pixels = (pixels + 190 * bright).reshape(200, 3072)
        data = np.concatenate([labels, pixels], axis=1).astype(np.uint8).tobytes()
        with open(os.path.join(folder, name + ".bin"), "wb") as file:
            file.write(data)
        monkeypatch.setitem(cifar10.SHA256, name, hashlib.sha256(data).hexdigest())


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision(), Precision(4, 2)], ids=str)
def test_a_member_is_trained_on_smoothed_labels(tmp_path, monkeypatch, precision):
    small_cifar10(monkeypatch, str(tmp_path))
    data = cifar10.load("train", str(tmp_path))
    run = settings(
        precision,
        network=architecture("CIFARconv"),
        epochs=4,
        batch_size=50,
        seed=1,
        label_smoothing=0.1,
    )
    folder = str(tmp_path / "member")
    test = cifar10.load("test", str(tmp_path))
    train(run, data, folder, test=test, test_each_epoch=True, progress=False)
    with open(os.path.join(folder, "training.json")) as file:
        record = json.load(file)
    assert record["network"] == "CIFARconv" and record["label_smoothing"] == 0.1
    assert len(record["history"]) == 4
    assert record["history"][-1]["test_accuracy"] == record["clean_accuracy"] > 0.2
    # No network can get below the entropy of the smoothed labels.
    entropy = -0.9 * np.log(0.9) - 0.1 * np.log(0.1 / 9)
    assert entropy < record["history"][-1]["loss"] < record["history"][0]["loss"]
