"""The suite's folder: what is of another run or damaged is not taken, whatever is lost of it."""

import json
import os
import shutil

import numpy as np
import pytest

from empir import runtime
from empir.errors import EmpirError, ResumeError
from empir.evaluation import suite
from empir.evaluation.specs import AttackSpec
from empir.records import locks, provenance, runs
from tests.support.kills import killed_after, killed_runs
from tests.support.known import Case, Known

pytestmark = pytest.mark.slow  # it runs whole evaluations

#: Both have the same graph, so that a run takes little time.
SPECS = (
    AttackSpec("first", "noise", everyone=True),
    AttackSpec("second", "noise", restarts=2),
)
FILES = ["examples.npz", "result.json"]


@pytest.fixture
def evaluate(random, monkeypatch):
    """`evaluate(out, **changes)`: the record of a suite of two attacks, in chunks of 25 images."""
    case = Case(random)
    monkeypatch.setattr(provenance, "of_run", dict)

    def run(out, **changes):
        plain = dict(batch_size=25, eps=0.2)
        setting = case.setting(**dict(plain, **changes))
        return suite.run(setting, str(out), SPECS, progress=False, analyses=False).record

    return run


@pytest.fixture
def finished(evaluate, tmp_path):
    """The folder of a finished run."""
    evaluate(tmp_path / "finished")
    return tmp_path / "finished"


def contents(out):
    """Bytes of each attack's images, and its row without the time that it took."""
    found = []
    for spec in SPECS:
        row = json.loads((out / spec.name / "result.json").read_text())
        del row["seconds"]
        found.append((row, (out / spec.name / "examples.npz").read_bytes()))
    return found


def test_a_suite_that_is_killed_anywhere_goes_on_to_the_same_bytes(
    evaluate, finished, tmp_path, monkeypatch
):
    points = 0
    for number in killed_runs(monkeypatch, lambda number: evaluate(tmp_path / str(number))):
        out, points = tmp_path / str(number), points + 1
        evaluate(out)
        assert contents(out) == contents(finished)
        assert sorted(os.listdir(str(out))) == [
            "first",
            "images.npz",
            "result.json",
            "run.json",
            "second",
        ]
        assert [sorted(os.listdir(str(out / spec.name))) for spec in SPECS] == 2 * [FILES]
    # The folder, run.json, result.json, the lock; and of each attack two folders, one chunk or two,
    # and two files to make, and the chunks and a folder to delete.
    assert points >= 4 + 2 * 7


def test_what_another_networks_run_left_is_not_mixed_with_this_one(
    evaluate, finished, tmp_path, monkeypatch, caplog
):
    out = tmp_path / "other"
    with killed_after(monkeypatch, 6, []):
        evaluate(out)
    assert "chunk-00000000.npz" in os.listdir(str(out / "first" / "partial"))
    (out / "run.json").unlink()
    monkeypatch.setattr(Known, "describe", lambda _: {"path": "another", "weight_bits": None})
    evaluate(out)
    assert "chunk-00000000.npz is of another run; it is computed again" in caplog.text
    (finished / "run.json").unlink()
    (finished / "result.json").unlink()
    with pytest.raises(ResumeError, match="first is of another run .of other networks, data or"):
        evaluate(finished)


def _edit(path, **changes):
    record = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in dict(record, **changes).items() if v != "gone"}))


def _copy(out, name):
    shutil.copy(str(out / "first" / name), str(out / "second" / name))


#: What happens to a finished run, and what is said of it then.
DAMAGES = {
    "swapped results": (
        lambda out: _copy(out, "result.json"),
        "second is of another run .*name was",
    ),
    "swapped images": (lambda out: _copy(out, "examples.npz"), "second has no sound examples.npz"),
    "lost images": (
        lambda out: (out / "first" / "examples.npz").unlink(),
        "first has no sound exam",
    ),
    "cut images": (
        lambda out: os.truncate(str(out / "first" / "examples.npz"), 100),
        "first has no sound examples.npz",
    ),
    "another count": (
        lambda out: _edit(out / "first" / "result.json", broken=3),
        "first is damaged .its record counts other successes",
    ),
    "no count": (
        lambda out: _edit(out / "first" / "result.json", broken="gone"),
        "no count of its successes",
    ),
    "no JSON": (lambda out: (out / "first" / "result.json").write_text("{"), "unreadable"),
    "other images": (
        lambda out: _edit(out / "second" / "result.json", attacked=1),
        "second is of another run .attacked was 1, now",
    ),
    "another state": (
        lambda out: _edit(out / "first" / "result.json", state={"run": "0"}),
        "first is of another run .of other networks",
    ),
    "a state of another shape": (
        lambda out: _edit(out / "first" / "result.json", state=[1]),
        "first is of another run .of other networks",
    ),
    "an attack's result in its place": (
        lambda out: (out / "result.json").write_text('{"schema": 1, "attack": {}}'),
        "result.json is of another kind of run: use another folder",
    ),
    "an attack's chunks": (
        lambda out: (out / "partial").mkdir(),
        "partial is of another kind of run: use another folder",
    ),
    "a chunk's folder that is a link": (
        lambda out: (
            (out / "first" / "result.json").unlink(),
            (out / "first" / "partial").symlink_to(str(out)),
        ),
        "first/partial is a link",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_finished_run_is_taken_only_as_it_was_written(evaluate, finished, damage):
    change, says = DAMAGES[damage]
    change(finished)
    with pytest.raises(ResumeError, match=says) as error:
        evaluate(finished)
    assert "\n" not in str(error.value)


def test_an_attack_whose_folder_is_removed_runs_again(evaluate, finished):
    before = contents(finished)
    shutil.rmtree(str(finished / "first"))
    evaluate(finished)
    assert contents(finished) == before


def test_attacks_of_an_earlier_version_are_taken_if_the_run_is_known(evaluate, finished):
    for spec in SPECS:
        _edit(finished / spec.name / "result.json", state="gone")
    record = evaluate(finished)
    assert not any("state" in row for row in record["trials"])
    for name in ("run.json", "result.json"):
        (finished / name).unlink()
    with pytest.raises(ResumeError, match="first holds a result, but there is no .*run.json"):
        evaluate(finished)


def test_other_threads_are_said_once(evaluate, finished, monkeypatch, caplog):
    monkeypatch.setattr(runtime, "parallelism", lambda: "7 threads, 3 shares")
    evaluate(finished)
    said = [message for message in caplog.messages if "may differ by rounding" in message]
    assert len(said) == 1 and "goes on with 7 threads, 3 shares" in said[0]


def test_a_folder_that_another_suite_uses_is_refused(evaluate, tmp_path):
    with locks.lock(str(tmp_path)), pytest.raises(ResumeError, match="is in use by another run"):
        evaluate(tmp_path)


def test_an_empty_folder_name_is_refused(evaluate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in ("", " "):
        with pytest.raises(EmpirError, match="--out=.*is empty: name a folder"):
            evaluate(out)
    assert os.listdir(str(tmp_path)) == []


def test_the_records_rows_are_those_of_the_attacks(evaluate, finished):
    record = json.loads((finished / "result.json").read_text())
    for row, (kept, _) in zip(record["trials"], contents(finished)):
        state = kept.pop("state")
        examples = str(finished / row["name"] / "examples.npz")
        assert state["examples"] == runs.file_digest(examples)
        assert kept == {k: v for k, v in row.items() if k not in ("worst_case", "seconds")}
        with np.load(examples) as archive:
            assert row["broken"] == archive["success"].sum()
