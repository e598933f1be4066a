"""AutoAttack: what it reads of a robustness run, its counts, and the networks in PyTorch."""

import contextlib
import dataclasses
import json
import os

import numpy as np
import pytest

from benchmarks import autoattack, autoattack_progress, worker_process
from benchmarks.robustness_run import Attacked, read_images, read_record
from empir import runtime
from empir.data import Dataset
from empir.data.mnist import load
from empir.errors import EmpirError, ResumeError
from empir.evaluation import per_image
from empir.evaluation.threat import Threat
from empir.models import DECISION_RULES
from empir.models.checkpoints import MemberSpec
from empir.models.ensemble import Ensemble, mean_logits
from empir.models.member import load_members
from empir.nn import architecture
from empir.nn.precision import FULL, Precision
from empir.runtime import tf
from tests.benchmarks.test_workers import PYTORCH, needs_pytorch
from tests.support import MEMBERS, ROOT
from tests.support.released import save_members
from tests.support.scripts import assert_refused

pytestmark = pytest.mark.slow  # it starts processes

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


def save_kept(folder, data, found):
    """Write a record and its NAME.npz, of one attack that succeeds on some images; its path."""
    zeros, broken = np.zeros(COUNT, np.int64), np.array(found)
    arrays = {f"clean_{name}": zeros for name in DECISION_RULES}
    arrays.update(label=data.labels, clean_members=zeros[:, None], l2=zeros, linf=zeros)
    arrays.update({f"adversarial_{name}": broken.astype(np.int64) for name in DECISION_RULES})
    arrays["adversarial_members"] = broken[:, None].astype(np.int64)
    of_attack = per_image.of_attack("first", "mean_logits", np.arange(COUNT), arrays)
    per_image.write(os.path.join(str(folder), "kept.npz"), of_attack)
    row = {"name": "first", "attacked": COUNT, "broken": int(broken.sum())}
    record = record_of(data, clean_accuracy=1.0, trials=[row])
    path = os.path.join(str(folder), "kept.json")
    with open(path, "w") as file:
        json.dump(dict(record, worst_case_accuracy=float(1 - broken.mean())), file)
    return path


def test_a_kept_record_says_what_was_found_without_its_images(data, tmp_path):
    path = save_kept(tmp_path, data, FOUND)
    kept = read_images(path, read_record(path), data)
    assert list(kept.found) == list(FOUND) and kept.adversarial is None
    fewer = read_images(path, kept.record, data, 2)
    assert list(fewer.found) == [False, True] and len(fewer.data.labels) == 2
    with pytest.raises(EmpirError, match="the record says 0.5"):
        read_images(path, dict(kept.record, worst_case_accuracy=0.5), data)
    with pytest.raises(EmpirError, match="no .*other.json: --run is the folder .* or a record"):
        read_record(str(tmp_path / "other.json"))


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
    threat = Threat(norm, EPS)
    assert list(threat.contains(images, adversarial, (0.0, 1.0))) == [is_inside]


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"combine": "median"}, "result.json: combine is 'median', not a decision rule"),
        (
            {"architecture": "AlexNet"},
            "cannot run with architecture 'AlexNet', only with MNISTconv, CIFARconv",
        ),
        ({"norm": "l1"}, "norm is 'l1', not linf or l2"),
        (
            {"options": {"stochastic_rounding": True}},
            "cannot run on networks with stochastic_round",
        ),
        ({"members": [dict(MEMBER, weight_bits=[2, None])]}, "b/x has bits per layer"),
    ],
)
def test_runs_of_what_there_is_not_in_pytorch_are_refused(data, tmp_path, changes, says):
    with pytest.raises(EmpirError, match=says):
        read_record(save_run(tmp_path, record_of(data, **changes)))


def test_members_of_other_kinds_are_refused(data, tmp_path):
    cases = (
        ({"path": "b/x"}, "member b/x has no sha256, weight_bits, activation_bits: AutoAttack"),
        (dict(MEMBER, path=None), "member None has no path: AutoAttack"),
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
    with pytest.raises(EmpirError, match="has no 'architecture'"):
        read_record(str(tmp_path))


def test_other_data_and_lost_images_are_refused(data, tmp_path):
    folder = save_run(tmp_path, record_of(data), first=EMPTY)
    other = dataclasses.replace(data, labels=data.labels + 1)
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
    """A worker whose networks misclassify image 0, and whose attacks succeed on given images.

    Args:
      successes: attack -> rows that it succeeds on.
      change: what is added to such an image.
      calls_left: calls of attacks until it is killed.
    """

    def __init__(self, data, successes, change=EPS, calls_left=99):
        self.name, self.calls = "PyTorch", []
        self._data, self._successes, self._change = data, successes, change
        self._calls_left = calls_left

    def ask(self, do, **arguments):
        """As `WorkerProcess.ask`."""
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
        if not self._calls_left:
            raise KeyboardInterrupt
        self._calls_left -= 1
        rows = arguments["rows"]
        self.calls.append((arguments["attack"], rows, arguments["norm"], arguments["eps"]))
        changed = np.isin(rows, self._successes.get(arguments["attack"], []))
        images = self._data.images[rows]
        images[changed] += np.float32(self._change)
        np.save(arguments["out"], images)
        decisions = changed.astype(int).tolist()
        return {"seconds": 1.0, "decisions": decisions, "warnings": {"N points": 1}}


@pytest.fixture
def checked(data, monkeypatch):
    """`checked(fake, out, found, **changes)`: the record of a check of a run, in batches of two."""
    zeros = np.zeros(COUNT, int)  # TensorFlow's decisions are all right
    exported = autoattack.Exported(np.eye(10)[zeros], zeros, 0)
    monkeypatch.setattr(autoattack, "export", lambda *_: exported)
    monkeypatch.setattr(autoattack_progress, "BATCH", 2)
    runtime.configure()

    def check(fake, out, found, with_images=True, **changes):
        monkeypatch.setattr(
            worker_process, "started", lambda *_: contextlib.nullcontext({"PyTorch": fake})
        )
        adversarial = None
        if with_images:
            adversarial = data.images.copy()
            adversarial[found] += np.float32(EPS)
        kept = Attacked(record_of(data, **changes), data, found, adversarial)
        return autoattack.check(kept, "python", str(out), progress=False)

    return check


SUCCESSES = {"apgd-ce": [1], "fab-t": [2, 0]}
FOUND = np.array([False, True, False, True, False])


def test_each_attack_gets_the_images_that_are_still_correct(data, checked, tmp_path):
    fake = Fake(data, SUCCESSES)
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
    # Correct are 0, 2 and 4 after the suite, 3 and 4 after AutoAttack.
    assert (auto["broken_by_it_alone"], auto["broken_by_suite_alone"]) == (2, 1)
    assert record["stronger_by"] == pytest.approx(20)
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(auto["correct"]), np.uint8))
    assert bits[: record["images"]].mean() == pytest.approx(auto["accuracy"])
    assert record["transferred"] == {"images": 2, "adversarial": 2}
    with open(str(tmp_path / "out.json")) as file:
        assert json.load(file) == json.loads(json.dumps(record))
    assert os.listdir(str(tmp_path)) == ["out.json"]


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_killed_check_goes_on_where_it_was(data, checked, tmp_path, calls):
    whole = Fake(data, SUCCESSES)
    expected = checked(whole, tmp_path / "whole.json", FOUND)
    with pytest.raises(KeyboardInterrupt):
        checked(Fake(data, SUCCESSES, calls_left=calls), tmp_path / "out.json", FOUND)
    assert not (tmp_path / "out.json").exists()
    if calls:
        with pytest.raises(ResumeError, match="state of another run .eps was 0.1, now 0.2"):
            checked(Fake(data, SUCCESSES), tmp_path / "out.json", FOUND, eps=0.2)
    again = Fake(data, SUCCESSES)
    assert checked(again, tmp_path / "out.json", FOUND) == expected
    assert again.calls == whole.calls[calls:]


def test_autoattack_must_keep_to_the_ball(data, checked, tmp_path):
    with pytest.raises(EmpirError, match="AutoAttack's apgd-ce gave an invalid image: example 1"):
        checked(Fake(data, SUCCESSES, change=1.01 * EPS), tmp_path / "out.json", FOUND)


def test_the_summary_names_who_succeeds_where(data, checked, tmp_path):
    text = autoattack.summary(checked(Fake(data, SUCCESSES), tmp_path / "out.json", FOUND))
    assert "accuracy is 40.00 % after pyautoattack 0.2.0 and 60.00 % after the suite." in text
    assert "AutoAttack is stronger by 20.00 points." in text
    assert "AutoAttack alone succeeds on 2 images. The suite alone succeeds on 1 images." in text
    assert "AutoAttack warns, apgd-ce, 2 times: N points" in text


def test_without_adversarial_images_nothing_is_said_of_them(data, checked, tmp_path):
    whole = checked(Fake(data, SUCCESSES), tmp_path / "whole.json", FOUND)
    assert "misclassify 2 of 2 adversarial images of the suite." in autoattack.summary(whole)
    record = checked(Fake(data, SUCCESSES), tmp_path / "out.json", FOUND, with_images=False)
    assert set(whole) - set(record) == {"transferred"} and record == {k: whole[k] for k in record}
    assert "misclassify" not in autoattack.summary(record)


@pytest.mark.parametrize(
    "points, says",
    [
        (2.5, "AutoAttack is stronger by 2.50 points."),
        (-2.5, "The suite is stronger by 2.50 points."),
        (0.0, "AutoAttack and the suite are equally strong."),
    ],
)
def test_the_stronger_of_two_is_named(data, checked, tmp_path, points, says):
    record = checked(Fake(data, SUCCESSES), tmp_path / "out.json", FOUND)
    text = autoattack.summary(dict(record, stronger_by=points))
    assert says in text and "-2.50" not in text


def save_attacked(folder, specs, data, random, eps, combine="mean_logits", **options):
    """A run's folder of networks whose one attack is a step against a gradient, or noise.

    Args:
      specs: of `member.load_members`.
      data: images; every other one of "relabelled" data gets the label that the ensemble decides.

    Returns:
      The data, and which of the images are correct after the attack.
    """
    with tf.Graph().as_default(), runtime.session() as session:
        members = load_members(architecture("MNISTconv"), specs, session, **options)
        images = tf.placeholder(tf.float32, (None,) + data.images.shape[1:])
        ensemble = Ensemble(members, combine)
        decisions = ensemble.decision(images)
        logits = mean_logits(ensemble.member_logits(images))
        gradient = tf.gradients(tf.reduce_max(logits, axis=1), images)[0]
        clean, slope = session.run([decisions, gradient], {images: data.images})
        if data.source == "relabelled":
            even = np.arange(len(clean)) % 2 == 0
            data = dataclasses.replace(data, labels=np.where(even, clean, data.labels))
        sign = np.where(slope == 0, random.choice([-1, 1], slope.shape), -np.sign(slope))
        adversarial = np.clip(data.images + eps * sign, 0, 1).astype(np.float32)
        success = session.run(decisions, {images: adversarial}) != data.labels
    described = [dict(m.describe(), path=os.path.relpath(m.path, ROOT)) for m in members]
    record = record_of(data, eps=eps, members=described, combine=combine, options=options)
    save_run(folder, record, first=(np.arange(len(success)), success, adversarial), second=EMPTY)
    return data, (clean == data.labels) & ~success


@pytest.fixture
def one_thread(monkeypatch):
    """PyTorch's threads wait for each other by spinning, which few images are not worth."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@needs_pytorch
def test_both_environments_on_a_vote_of_narrow_networks(tmp_path, random, one_thread):
    save_members(str(tmp_path))
    bits = {"model1": Precision(2, 4), "model2": Precision(2, 4), "model3": FULL}
    specs = [MemberSpec(precision, str(tmp_path / name)) for name, precision in bits.items()]
    data = dataclasses.replace(load("test", None, True).first(10), source="relabelled")
    data, robust = save_attacked(tmp_path, specs, data, random, 0.01, "vote", nb_filters=4)
    kept = read_images(str(tmp_path), read_record(str(tmp_path)), data)
    budget, out = {"steps": 3, "queries": 10}, str(tmp_path / "out.json")
    record = autoattack.check(kept, PYTORCH, out, progress=False, budget=budget)
    auto = record["autoattack"]
    assert record["suite_accuracy"] == robust.mean() and record["logits"]["max"] < 1e-3
    assert record["transferred"]["images"] == record["transferred"]["adversarial"]
    after = [attack["accuracy_after"] for attack in auto["attacks"]]
    assert [attack["name"] for attack in auto["attacks"]] == list(autoattack_progress.ATTACKS)
    assert after == sorted(after, reverse=True) and auto["accuracy"] == after[-1]
    assert auto["accuracy"] < record["clean_accuracy"] and auto["version"] == "reduced"
    assert {"torch", "pyautoattack"} <= set(record["versions"]["pytorch"])
    kept.record["members"][0]["sha256"] = "0"
    with pytest.raises(EmpirError, match="model1 holds other weights than the run attacked"):
        autoattack.check(kept, PYTORCH, out)


@needs_pytorch
def test_the_command_on_shipped_networks(benchmark, tmp_path, random, one_thread):
    specs = [
        MemberSpec(precision, os.path.join(MEMBERS, name))
        for name, precision in (("model1-w2a4", Precision(2, 4)), ("model3-fp", FULL))
    ]
    _, robust = save_attacked(tmp_path, specs, load("test", None, True).first(4), random, 0.3)
    line = "--run=. --sample --out=new/out.json --noprogress --nb_samples=3 --pytorch=" + PYTORCH
    process = benchmark(autoattack, line, str(tmp_path))
    assert process.returncode == 0, process.stderr
    with open(str(tmp_path / "new" / "out.json")) as file:
        record = json.load(file)
    assert process.stdout == autoattack.summary(record) + "\n"
    assert (record["num_examples"], record["images"]) == (4, 3)
    assert record["suite_accuracy"] == robust[:3].mean()
    assert record["clean_accuracy"] == 1 and record["autoattack"]["accuracy"] == 0
    assert record["autoattack"]["version"] == "standard"
    refused = benchmark(autoattack, line.replace("=3", "=5"), str(tmp_path))
    assert_refused(refused, "nb_samples=5")


@pytest.mark.parametrize(
    "line, says",
    [
        ("--out=o.json", "--run is missing: name the folder or the record of a run"),
        ("--run=docs", "--out is missing"),
        ("--run=docs --out=empir", "--out=empir is a folder"),
        ("--run=docs --out=o.json --pytorch=nowhere", "nowhere: scripts/pytorch.sh makes it"),
        ("--run=docs --out=o.json --pytorch=setup.py", "no program setup.py"),
        ("--run=docs --out=o.json --num_threads=0", "num_threads"),
        ("--run=docs --out=o.json --pytorch=/bin/sh", "result.json: --run is the folder"),
    ],
)
def test_bad_input_is_one_line(benchmark, line, says):
    assert_refused(benchmark(autoattack, line), says)
