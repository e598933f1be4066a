"""The example script as users run it: README commands, standard output, other Pythons, help."""

import json
import os
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from empir.data import mnist
from empir.models import checkpoints
from tests.support import ROOT
from tests.support.pinned import assert_pinned
from tests.support.released import MEMBERS, narrow, save_members
from tests.support.scripts import MNIST_SCRIPT, RESULT, assert_refused, assert_result, run_script

pytestmark = pytest.mark.slow  # it starts processes

# The original's README commands with short paths, and the sizes that keep tests fast.
ENSEMBLE = (
    "--wbits=2 --abits=4 --wbits2=2 --abits2=4 --ensembleThree "
    "--model_path1=model1 --model_path2=model2 --model_path3=model3"
)
BASELINE = "--model_path=model3"
SMALL = "--nb_filters=4 --nb_samples=20 --attack_iterations=3"

#: DESIGN.md, "Command line"; records may hold more.
KEYS = set(
    "schema dataset architecture protocol combine members attack num_examples clean_accuracy "
    "adversarial_accuracy accuracy member_accuracy mean_l2 mean_linf seed seconds versions "
    "git_commit command started".split()
)


def script(python, arguments, folder, home=""):
    """Run the MNIST script."""
    return run_script(python, MNIST_SCRIPT, arguments, folder, home)


class Kept(NamedTuple):
    """A run of a README command: its streams and what its --out holds."""

    process: subprocess.CompletedProcess
    record: dict
    examples: dict
    folder: str


def readme_command(command, members, factory):
    """Run one of the original's README commands on 20 images of the sample, and read --out."""
    out = factory.mktemp("out")
    line = "%s %s --out=%s" % (command, SMALL, out)
    process = script(sys.executable, line, members, factory.mktemp("home"))
    assert process.returncode == 0, process.stderr
    with open(str(out / "result.json")) as file:
        record = json.load(file)
    with np.load(str(out / "examples.npz"), allow_pickle=False) as archive:
        return Kept(process, record, dict(archive), str(out))


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """A folder with the checkpoints of an ensemble."""
    folder = str(tmp_path_factory.mktemp("members"))
    save_members(folder)
    return folder


@pytest.fixture(scope="module")
def ensemble(members, tmp_path_factory):
    """The README's ensemble command, on the sample as there is no download."""
    return readme_command(ENSEMBLE, members, tmp_path_factory)


@pytest.fixture(scope="module")
def baseline(members, tmp_path_factory):
    """The README's baseline command, keeping the adversarial images."""
    return readme_command(BASELINE + " --save_adversarial", members, tmp_path_factory)


@pytest.fixture(params=["ensemble", "baseline"])
def kept(request):
    """Either of the two runs."""
    return request.getfixturevalue(request.param)


def test_standard_output_is_the_three_lines_of_the_result(kept):
    assert_result(kept.process, kept.record)


def test_the_sample_in_place_of_a_download_is_said_on_standard_error(kept):
    assert "USING THE EMBEDDED SAMPLE" in kept.process.stderr
    assert kept.record["data"]["source"] == "embedded sample"
    assert "Traceback" not in kept.process.stderr and "Warning" not in kept.process.stderr


def test_the_record_has_the_documented_keys(ensemble, baseline):
    record = ensemble.record
    assert KEYS <= set(record) == set(baseline.record)
    assert record["schema"] == 1 and record["num_examples"] == 20 and record["seed"] == 1237
    assert (record["dataset"], record["architecture"]) == ("mnist", "MNISTconv")
    assert (record["protocol"], record["combine"]) == ("whitebox", "mean_logits")
    assert record["attack"]["name"] == "cw" and record["attack"]["target"] == "decision"
    assert record["attack"]["max_iterations"] == 3 and record["attack"]["initial_const"] == 10
    assert set(record["seconds"]) == {"build", "clean", "attack", "total"}
    assert record["versions"]["tensorflow"].startswith("1.15.")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", record["started"])
    assert all(word in record["command"].split() for word in ENSEMBLE.split())
    assert_pinned("mnist_attack ensemble", ensemble.folder)
    assert_pinned("mnist_attack baseline", baseline.folder)


def test_the_record_says_which_members_were_attacked(ensemble, baseline):
    expected = [
        {"path": name, "sha256": checkpoints.digest(narrow(kind, seed=seed))}
        for name, kind, seed in MEMBERS
    ]
    for member, bits in zip(expected, ((2, 4), (2, 4), (None, None))):
        member["weight_bits"], member["activation_bits"] = bits
    assert ensemble.record["members"] == expected
    assert baseline.record["members"] == expected[2:]


def test_the_record_is_the_mean_of_the_examples(kept):
    record, examples = kept.record, kept.examples
    label = examples["label"]
    np.testing.assert_array_equal(label, mnist.load("test", sample=True).labels[:20])
    for when in ("clean", "adversarial"):
        for rule in ("vote", "mean_logits", "mean_probs"):
            right = np.mean(examples["%s_%s" % (when, rule)] == label)
            assert record["accuracy"][rule][when] == right
        assert record[when + "_accuracy"] == record["accuracy"]["mean_logits"][when]
        members = examples["%s_members" % when]
        assert members.shape == (20, len(record["members"]))
        right = np.mean(members == label[:, np.newaxis], axis=0)
        assert [accuracy[when] for accuracy in record["member_accuracy"]] == list(right)
    for norm in ("l2", "linf"):
        # The record's mean is taken in float64 of the same float32 values.
        mean = np.mean(examples[norm], dtype=np.float64)
        assert record["mean_" + norm] == pytest.approx(mean, rel=1e-12)


def test_saved_adversarial_images_have_the_kept_distances(ensemble, baseline):
    assert "adversarial" not in ensemble.examples
    adversarial = baseline.examples["adversarial"]
    assert adversarial.shape == (20, 28, 28, 1) and adversarial.dtype == np.float32
    assert adversarial.min() >= 0.0 and adversarial.max() <= 1.0
    change = adversarial.astype(np.float64) - mnist.load("test", sample=True).images[:20]
    change = change.reshape(20, -1)
    # The distances are kept as float32, of differences rounded to float32.
    np.testing.assert_allclose(
        baseline.examples["l2"], np.linalg.norm(change, axis=1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        baseline.examples["linf"], np.abs(change).max(axis=1), rtol=1e-5, atol=1e-6
    )


def test_bad_input_is_one_line_of_a_new_process_too(tmp_path):
    assert_refused(script(sys.executable, BASELINE + " --unknown=1", str(tmp_path)), "unknown")


def test_help_lists_the_flags(tmp_path):
    process = script(sys.executable, "--help", str(tmp_path))
    for flag in ("--model_path", "--attack", "--protocol", "--nb_samples"):
        assert flag + ":" in process.stdout
    assert max(len(line) for line in process.stdout.splitlines()) <= 100


def other_python():
    """A Python interpreter of this machine that is not 3.7, or None."""
    names = ["python3"] + ["python3.%d" % minor for minor in (6, 8, 9, 10, 11, 12, 13, 14)]
    for path in [None, os.defpath]:
        for python in filter(None, (shutil.which(name, path=path) for name in names)):
            code = "import sys; sys.exit(sys.version_info[:2] == (3, 7))"
            if subprocess.call([python, "-c", code], stderr=subprocess.DEVNULL) == 0:
                return python
    return None


def test_another_python_is_refused_in_one_line(tmp_path):
    python = other_python()
    if python is None:
        pytest.skip("this machine has no Python 3 but 3.7")
    assert_refused(script(python, BASELINE, str(tmp_path)), "Python 3.7")


@pytest.mark.parametrize(
    "code",
    [
        "import sys, empir; sys.exit('tensorflow' in sys.modules)",
        "import empir.attacks, empir.models.ensemble",
    ],
)
def test_importing_is_silent(code):
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")


def test_the_adaptive_protocol_leaves_a_report(members, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_DISABLE_MKL", "1")  # half the time: graphs of some thirty attacks
    # The width is the checkpoint's, and the network outside has another one.
    line = "--protocol=adaptive --members=w2a4:model1 --combine=vote --nb_samples=4 "
    line += "--eps=0.02 --noprogress --attack=pgd --out=%s" % (tmp_path / "out")
    process = script(sys.executable, line, members, tmp_path)
    assert process.returncode == 0, process.stderr
    with open(str(tmp_path / "out" / "result.json")) as file:
        record = json.load(file)
    assert record["eps"] == 0.02 and record["options"] == {"nb_filters": 4}
    assert [member["weight_bits"] for member in record["members"]] == [2]
    assert record["combine"] == "vote" and len(record["verdicts"]) == 13
    checks = {verdict["name"]: verdict["passed"] for verdict in record["verdicts"]}
    assert checks["complete"] is True
    assert any(trial["name"].startswith("apgd-outside") for trial in record["trials"])
    (outside,) = record["outside"]
    assert outside["path"].endswith("independent/mnist") and outside["nb_filters"] == 64
    numbers = [float(number) for number in RESULT.match(process.stdout).groups()]
    assert numbers[0] == record["clean_accuracy"] and numbers[1] == record["worst_case_accuracy"]
    assert "--attack has no effect: --protocol=adaptive sets its own attacks" in process.stderr
    assert (tmp_path / "out" / "report.html").exists() and "verdicts" not in process.stdout
    again = script(sys.executable, line, members, tmp_path)
    assert again.stdout == process.stdout
