"""The check from outside: what it reads of a run, its state, its counts, and both environments."""

import contextlib
import json
import os
import sys

import numpy as np
import pytest

from benchmarks import autoattack, comparison
from benchmarks.robustness_run import Attacked, inside, read_images, read_record
from empir import runtime
from empir.data import Dataset
from empir.data.mnist import load
from empir.errors import EmpirError, ResumeError
from empir.models.ensemble import Ensemble, mean_logits
from empir.nn import architecture
from empir.nn.precision import FULL, Precision
from empir.report import autoattack as report
from empir.runtime import tf
from tests.benchmarks.test_workers import PYTORCH, needs_pytorch
from tests.support import MEMBERS, ROOT
from tests.support.released import save_members
from tests.support.scripts import assert_refused, run_module

COUNT = 5
EPS = 0.1
MEMBER = {"path": "b/x", "sha256": "0", "weight_bits": 2, "activation_bits": 4}


@pytest.fixture
def data(random):
    """Five images of 2x3 pixels, all of class 0."""
    images = random.uniform(0.2, 0.8, (COUNT, 2, 3, 1)).astype(np.float32)
    return Dataset("mnist", "test", images, np.zeros(COUNT, np.int64), 10, (0.0, 1.0), "known")


def record_of(data, **changes):
    """A run's record of two trials."""
    record = dict(
        dataset="mnist",
        architecture="MNISTconv",
        combine="mean_logits",
        members=[MEMBER],
        eps=EPS,
        norm="linf",
        num_examples=len(data.labels),
        data={"split": "test", "sha256": data.digest()},
        trials=[{"name": "first"}, {"name": "second"}],
    )
    return dict(record, **changes)


def save_run(folder, record, **trials):
    """Write a run's folder; trials: (rows, successes, images) by name."""
    os.makedirs(str(folder), exist_ok=True)
    with open(os.path.join(str(folder), "result.json"), "w") as file:
        json.dump(record, file)
    for name, (row, success, adversarial) in trials.items():
        os.makedirs(os.path.join(str(folder), name))
        np.savez(
            os.path.join(str(folder), name, "examples.npz"),
            row=np.array(row, np.int64),
            success=np.array(success, bool),
            adversarial=adversarial,
        )
    return str(folder)


EMPTY = ([], [], np.zeros(0, np.int64))


def test_the_first_success_inside_the_ball_is_taken(data, tmp_path):
    near, far = data.images + np.float32(EPS / 2), data.images + np.float32(2 * EPS)
    first = near.copy()
    first[0], first[3] = far[0], np.nan
    rows, success = [0, 1, 2, 3], [True, True, False, True]
    second = (rows, [False, True, True, False], data.images[:4] - np.float32(EPS))
    folder = save_run(tmp_path, record_of(data), first=(rows, success, first[:4]), second=second)
    kept = read_images(folder, read_record(folder), data)
    assert list(kept.found) == [False, True, True, False, False]
    np.testing.assert_array_equal(kept.adversarial[1], near[1])
    np.testing.assert_array_equal(kept.adversarial[2], second[2][2])
    np.testing.assert_array_equal(kept.adversarial[[0, 3, 4]], data.images[[0, 3, 4]])
    fewer = read_images(folder, kept.record, data, 2)
    assert list(fewer.found) == [False, True] and len(fewer.data.labels) == 2


@pytest.mark.parametrize(
    "norm, change, is_inside",
    [
        ("linf", [0.1, -0.1, 0, 0], True),
        ("linf", [0.101, 0, 0, 0], False),
        ("l2", [0.06, -0.08, 0, 0], True),
        ("l2", [0.06, -0.081, 0, 0], False),
        ("linf", [np.nan, 0, 0, 0], False),
        ("linf", [0, 0, 0, 0.05], False),  # leaves the range
    ],
)
def test_a_ball_is_of_its_norm_and_range(norm, change, is_inside):
    images = np.array([0.5, 0.7, 0.3, 1.0], np.float32).reshape((1, 2, 2, 1))
    adversarial = images + np.array(change, np.float32).reshape(images.shape)
    assert list(inside(images, adversarial, EPS, norm, (0.0, 1.0))) == [is_inside]


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"combine": "vote"}, "combine 'vote' has no check from outside, which there is for mean_"),
        ({"architecture": "AlexNet"}, "'AlexNet' has no check .* is for MNISTconv, CIFARconv"),
        ({"norm": "l1"}, "norm 'l1'"),
        ({"options": {"stochastic_rounding": True}}, "no check of networks with stochastic_round"),
        ({"members": [dict(MEMBER, weight_bits=[2, None])]}, "b/x has bits per layer"),
    ],
)
def test_runs_that_pytorch_cannot_be_are_refused(data, tmp_path, changes, says):
    with pytest.raises(EmpirError, match=says):
        read_record(save_run(tmp_path, record_of(data, **changes)))


def test_members_of_other_kinds_are_refused(data, tmp_path):
    cases = (
        ({"path": "b/x"}, "member b/x has no weight_bits, activation_bits, sha256: there"),
        (dict(MEMBER, path=None), "member None has no path: there"),
    )
    for number, (other, says) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(EmpirError, match=says):
            read_record(save_run(folder, record_of(data, members=[MEMBER, other])))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(EmpirError, match="no .*result.json: --run is the folder"):
        read_record(str(tmp_path))
    (tmp_path / "result.json").write_text('{"dataset": "mnist"}')
    with pytest.raises(EmpirError, match="has no architecture, .* trials: it is no record"):
        read_record(str(tmp_path))


def test_other_data_and_lost_images_are_refused(data, tmp_path):
    folder = save_run(tmp_path, record_of(data), first=EMPTY)
    other = data._replace(labels=data.labels + 1)
    with pytest.raises(EmpirError, match="attacked other images than those of known"):
        read_images(folder, read_record(folder), other)
    with pytest.raises(EmpirError, match="no .*second.examples.npz"):
        read_images(folder, read_record(folder), data)
    for name, trial in ("torn", None), ("thin", ([0], [True], np.zeros((1, 2, 2, 1), "f4"))):
        record = record_of(data, trials=[{"name": name}])
        folder = save_run(tmp_path / name, record, **({name: trial} if trial else {}))
        if not trial:
            os.makedirs(os.path.join(folder, name))
            (tmp_path / name / name / "examples.npz").write_bytes(b"PK and nothing else")
        with pytest.raises(EmpirError, match="examples.npz is unreadable"):
            read_images(folder, record, data)


class Fake:
    """A PyTorch side that is wrong on image 0, and whose attacks break the images that they know.

    Args:
      broken: attack -> rows that it breaks.
      change: what is added to an image that is broken.
      left: calls of attacks until it is killed.
    """

    def __init__(self, data, broken, change=EPS, left=99):
        self.name, self.calls = "PyTorch", []
        self._data, self._broken, self._change, self._left = data, broken, change, left

    def ask(self, do, **arguments):
        """As `comparison.Worker.ask`."""
        if do == "logits":
            return {"logits": np.eye(10)[np.zeros(COUNT, int)].tolist()}
        if do == "environment":
            return {"versions": {"pyautoattack": "0.2.0"}}
        if do == "decide":
            images = (
                self._data.images if "images" not in arguments else np.load(arguments["images"])
            )
            changed = (images != self._data.images).any(axis=(1, 2, 3))
            return {"decisions": [1] + changed[1:].astype(int).tolist()}
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        rows = arguments["rows"]
        self.calls.append((arguments["attack"], rows, arguments["norm"], arguments["eps"]))
        broken = np.isin(rows, self._broken.get(arguments["attack"], []))
        images = self._data.images[rows]
        images[broken] += np.float32(self._change)
        np.save(arguments["out"], images)
        decisions = broken.astype(int).tolist()
        return {"seconds": 1.0, "decisions": decisions, "warnings": {"N points": 1}}


@pytest.fixture
def checked(data, monkeypatch):
    """`checked(fake, out, found, **changes)`: the record of a check of a run, in batches of two."""
    logits = np.eye(10)[np.zeros(COUNT, int)]  # TensorFlow's decisions are all right
    monkeypatch.setattr(autoattack, "export", lambda *_: logits)
    monkeypatch.setattr(autoattack, "BATCH", 2)
    runtime.configure()

    def check(fake, out, found, **changes):
        monkeypatch.setattr(
            comparison, "started", lambda commands: contextlib.nullcontext({"PyTorch": fake})
        )
        adversarial = data.images.copy()
        adversarial[found] += np.float32(EPS)
        kept = Attacked(record_of(data, **changes), data, found, adversarial)
        return autoattack.check(kept, "python", str(out), progress=False)

    return check


BROKEN = {"apgd-ce": [1], "fab-t": [2, 0]}
FOUND = np.array([False, True, False, True, False])


def test_each_attack_sees_what_those_before_it_left(data, checked, tmp_path):
    fake = Fake(data, BROKEN)
    record = checked(fake, tmp_path / "out.json", FOUND)
    assert fake.calls == [
        (name, rows, "Linf", EPS)
        for name, rows in (
            ("apgd-ce", [1, 2]),  # 0 is wrong when clean
            ("apgd-ce", [3, 4]),
            ("apgd-t", [2, 3]),
            ("apgd-t", [4]),
            ("fab-t", [2, 3]),
            ("fab-t", [4]),
            ("square", [3, 4]),
        )
    ]
    auto = record["autoattack"]
    assert [attack["accuracy_after"] for attack in auto["attacks"]] == [0.6, 0.6, 0.4, 0.4]
    assert [attack["attacked"] for attack in auto["attacks"]] == [4, 3, 3, 2]
    assert [attack["seconds"] for attack in auto["attacks"]] == [2.0, 2.0, 2.0, 1.0]
    assert auto["attacks"][0]["warnings"] == {"N points": 2}
    assert (auto["package"], auto["version"]) == ("pyautoattack 0.2.0", "standard")
    assert (auto["accuracy"], record["suite_accuracy"], record["clean_accuracy"]) == (0.4, 0.6, 1)
    # The suite leaves 0, 2 and 4; AutoAttack 3 and 4.
    assert (auto["broken_by_it_alone"], auto["broken_by_suite_alone"]) == (2, 1)
    assert record["stronger_by"] == pytest.approx(20)
    assert record["transferred"] == {"images": 2, "adversarial": 2}
    with open(str(tmp_path / "out.json")) as file:
        assert json.load(file) == json.loads(json.dumps(record))
    assert os.listdir(str(tmp_path)) == ["out.json"]


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_killed_check_goes_on_where_it_was(data, checked, tmp_path, calls):
    whole = Fake(data, BROKEN)
    expected = checked(whole, tmp_path / "whole.json", FOUND)
    with pytest.raises(KeyboardInterrupt):
        checked(Fake(data, BROKEN, left=calls), tmp_path / "out.json", FOUND)
    assert not (tmp_path / "out.json").exists()
    if calls:
        with pytest.raises(ResumeError, match="state of another check .eps was 0.1, now 0.2"):
            checked(Fake(data, BROKEN), tmp_path / "out.json", FOUND, eps=0.2)
    again = Fake(data, BROKEN)
    assert checked(again, tmp_path / "out.json", FOUND) == expected
    assert again.calls == whole.calls[calls:]


def test_autoattack_must_keep_to_the_ball(data, checked, tmp_path):
    with pytest.raises(EmpirError, match="AutoAttack's apgd-ce gave an invalid image: example 1"):
        checked(Fake(data, BROKEN, change=1.01 * EPS), tmp_path / "out.json", FOUND)


def test_the_table_has_a_row_per_record(data, checked, tmp_path):
    full = {"path": "a/y", "weight_bits": None, "activation_bits": None}
    out = tmp_path / "robustness" / "outside" / "mnist.json"
    record = checked(Fake(data, BROKEN), out, FOUND, members=[MEMBER, full])
    row = report.table(str(tmp_path / "mnist"), None).split("\n")[2]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["`a`, `b`", "w2a4, fp", "L-infinity", "0.1", "5"]
    assert cells[5:] == ["60.00", "40.00", "+20.00", "2 of 2"]
    text = report.terminal(record)
    assert "pyautoattack 0.2.0 leaves 40.00 %, the suite 60.00 %" in text
    assert "2 images broken by it alone, 1 by the suite alone" in text
    assert "AutoAttack warns, apgd-ce, 2 times: N points" in text


def test_a_pytorch_side_that_is_dead_is_one_line():
    words = "import sys; sys.exit('No module named torch')"
    with pytest.raises(EmpirError, match="^PyTorch, asked to logits: No module named torch$"):
        with comparison.started({"PyTorch": [sys.executable, "-c", words]}) as workers:
            workers["PyTorch"]._process.wait()
            workers["PyTorch"].ask("logits")


def save_attacked(folder, specs, data, random, eps, **options):
    """A run's folder of networks whose one attack is a step against a gradient, or noise.

    Args:
      specs: of `comparison.load`.
      data: images; every other one of "relabelled" data gets the label that the ensemble decides.

    Returns:
      The data, and which of the images withstood the attack.
    """
    with tf.Graph().as_default(), runtime.session() as session:
        members = comparison.load(architecture("MNISTconv"), specs, session, **options)
        images = tf.placeholder(tf.float32, (None,) + data.images.shape[1:])
        logits = mean_logits(Ensemble(members, "mean_logits").member_logits(images))
        gradient = tf.gradients(tf.reduce_max(logits, axis=1), images)[0]
        clean, slope = session.run([logits, gradient], {images: data.images})
        if data.source == "relabelled":
            even = np.arange(len(clean)) % 2 == 0
            data = data._replace(labels=np.where(even, clean.argmax(axis=1), data.labels))
        sign = np.where(slope == 0, random.choice([-1, 1], slope.shape), -np.sign(slope))
        adversarial = np.clip(data.images + eps * sign, 0, 1).astype(np.float32)
        success = session.run(logits, {images: adversarial}).argmax(axis=1) != data.labels
    described = [dict(m.describe(), path=os.path.relpath(m.path, ROOT)) for m in members]
    record = record_of(data, eps=eps, members=described, options=options)
    save_run(folder, record, first=(np.arange(len(success)), success, adversarial), second=EMPTY)
    return data, (clean.argmax(axis=1) == data.labels) & ~success


@pytest.fixture
def one_thread(monkeypatch):
    """PyTorch's threads wait for each other by spinning, which few images are not worth."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@needs_pytorch
def test_both_environments_on_narrow_networks(tmp_path, random, one_thread):
    save_members(str(tmp_path))
    specs = [
        (name, precision, str(tmp_path / name))
        for name, precision in (("model1", Precision(2, 4)), ("model3", FULL))
    ]
    data = load("test", None, True).first(10)._replace(source="relabelled")
    data, withstood = save_attacked(tmp_path, specs, data, random, 0.01, nb_filters=4)
    kept = read_images(str(tmp_path), read_record(str(tmp_path)), data)
    budget, out = {"steps": 3, "queries": 10}, str(tmp_path / "out.json")
    record = autoattack.check(kept, PYTORCH, out, progress=False, budget=budget)
    auto = record["autoattack"]
    assert record["suite_accuracy"] == withstood.mean() and record["logits"]["max"] < 1e-3
    assert record["transferred"]["images"] == record["transferred"]["adversarial"]
    after = [attack["accuracy_after"] for attack in auto["attacks"]]
    assert [attack["name"] for attack in auto["attacks"]] == list(autoattack.ATTACKS)
    assert after == sorted(after, reverse=True) and auto["accuracy"] == after[-1]
    assert auto["accuracy"] < record["clean_accuracy"] and auto["version"] == "reduced"
    assert {"torch", "pyautoattack"} <= set(record["versions"]["pytorch"])
    kept.record["members"][0]["sha256"] = "0"
    with pytest.raises(EmpirError, match="model1 holds other weights than the run attacked"):
        autoattack.check(kept, PYTORCH, out)


@needs_pytorch
def test_the_command_on_shipped_networks(tmp_path, random, one_thread):
    specs = [
        (name, precision, os.path.join(MEMBERS, name))
        for name, precision in (("model1-w2a4", Precision(2, 4)), ("model3-fp", FULL))
    ]
    _, withstood = save_attacked(tmp_path, specs, load("test", None, True).first(4), random, 0.3)
    line = "--run=. --sample --out=new/out.json --noprogress --nb_samples=3 --pytorch=" + PYTORCH
    process = run_module("benchmarks.autoattack", line, str(tmp_path))
    assert process.returncode == 0, process.stderr
    with open(str(tmp_path / "new" / "out.json")) as file:
        record = json.load(file)
    assert process.stdout == report.terminal(record) + "\n"
    assert (record["num_examples"], record["images"]) == (4, 3)
    assert record["suite_accuracy"] == withstood[:3].mean()
    assert record["clean_accuracy"] == 1 and record["autoattack"]["accuracy"] == 0
    assert record["autoattack"]["version"] == "standard"
    refused = run_module("benchmarks.autoattack", line.replace("=3", "=5"), str(tmp_path))
    assert_refused(refused, "nb_samples=5")


@pytest.mark.parametrize(
    "line, says",
    [
        ("--out=o.json", "--run is missing: name the folder of a run"),
        ("--run=docs", "--out is missing"),
        ("--run=docs --out=empir", "--out=empir is a folder"),
        ("--run=docs --out=o.json --pytorch=nowhere", "nowhere: scripts/pytorch.sh makes it"),
        ("--run=docs --out=o.json --pytorch=setup.py", "no program setup.py"),
        ("--run=docs --out=o.json --num_threads=0", "num_threads"),
        ("--run=docs --out=o.json --pytorch=/bin/sh", "result.json: --run is the folder"),
    ],
)
def test_bad_input_is_one_line(line, says):
    assert_refused(run_module("benchmarks.autoattack", line), says)
