"""AutoAttack: records and state that are damaged, kills, and a second process."""

import json
import os

import pytest

from benchmarks import autoattack_progress
from benchmarks.robustness_run import read_images, read_record
from empir.errors import EmpirError, ResumeError
from empir.records import locks, runs
from tests.benchmarks.test_autoattack import (
    COUNT,
    EMPTY,
    FOUND,
    SUCCESSES,
    Fake,
    checked,
    data,
    record_of,
    save_run,
)
from tests.support.kills import killed_runs

pytestmark = pytest.mark.slow  # it starts processes

__all__ = ["checked", "data"]  # fixtures


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"trials": "noise"}, "trials is 'noise', not a list"),
        ({"trials": [{"name": "../other"}]}, "name is '../other', not the name of a folder"),
        ({"trials": [{"name": ".."}]}, "name is '..', not the name of a folder"),
        ({"trials": [{}]}, "no 'name'"),
        ({"trials": ["noise"]}, "is 'noise', not an object"),
        ({"members": []}, r"members is \[\], not a list of values"),
        ({"members": ["a"]}, "is 'a', not an object"),
        ({"members": {}}, "members is {}, not a list"),
        ({"eps": "0.1"}, "eps is '0.1'"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"num_examples": 0}, "num_examples is 0"),
        ({"num_examples": 5.0}, "num_examples is 5.0"),
        ({"data": {}}, "no 'sha256'"),
        ({"data": None}, "data is None"),
        ({"norm": []}, r"norm is \[\]"),
        ({"options": []}, r"options is \[\]"),
    ],
)
def test_records_of_another_shape_are_refused(data, tmp_path, changes, says):
    with pytest.raises(EmpirError, match=says + ".*: it is damaged or of another kind") as error:
        record = read_record(save_run(tmp_path, dict(record_of(data), **changes)))
        read_images(str(tmp_path), record, data)
    assert "\n" not in str(error.value)


def test_images_other_than_those_that_the_run_wrote_are_refused(data, tmp_path):
    folder = save_run(tmp_path, record_of(data), first=EMPTY, second=EMPTY)
    path = str(tmp_path / "first" / "examples.npz")
    state = tmp_path / "first" / "result.json"
    state.write_text(json.dumps({"state": {"examples": runs.file_digest(path)}}))
    assert not read_images(folder, read_record(folder), data).found.any()
    state.write_text(json.dumps({"state": {"examples": "0"}}))
    with pytest.raises(EmpirError, match="examples.npz is unreadable: not the file that the run w"):
        read_images(folder, read_record(folder), data)
    state.unlink()
    os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(EmpirError, match="examples.npz is unreadable: not a regular file"):
        read_images(folder, read_record(folder), data)


def test_a_check_that_is_killed_anywhere_goes_on_to_the_same_record(
    data, checked, tmp_path, monkeypatch
):
    expected, points = checked(Fake(data, SUCCESSES), tmp_path / "whole.json", FOUND), 0

    def out(number):
        return tmp_path / str(number) / "out.json"

    for number in killed_runs(
        monkeypatch, lambda number: checked(Fake(data, SUCCESSES), out(number), FOUND)
    ):
        points += 1
        assert checked(Fake(data, SUCCESSES), out(number), FOUND) == expected
        assert os.listdir(str(out(number).parent)) == ["out.json"]
    # Two folders, the state after each of seven batches, the record, the state's and lock's end.
    assert points >= 2 + 7 + 3


def _entry(**changes):
    return dict(
        dict(name="apgd-ce", attacked=2, broken=[1], seconds=1.0, warnings={"N points": 1}),
        **changes,
    )


@pytest.mark.parametrize(
    "attacks",
    [
        None,
        5,
        {},
        [5],
        [_entry(name="square")],
        [_entry(broken=[5])],
        [_entry(broken=[-1])],
        [_entry(broken=["1"])],
        [_entry(attacked=6)],
        [_entry(attacked="2")],
        [_entry(seconds=None)],
        [_entry(warnings=[])],
        [{"name": "apgd-ce"}],
    ],
)
def test_the_state_of_a_check_is_taken_only_as_it_was_written(tmp_path, attacks):
    path, description = str(tmp_path / "out.json.partial"), {"images": COUNT}
    for content in ({"run": description, "attacks": attacks}, {"run": [], "attacks": []}):
        with open(path, "w") as file:
            json.dump(content, file)
        if attacks == {}:  # as good as none
            break
        with pytest.raises(ResumeError, match="out.json.partial is .*remove it to start over") as e:
            autoattack_progress.State(path, description)
        assert "\n" not in str(e.value)


def test_a_state_whose_content_changed_is_refused(tmp_path):
    path, description = str(tmp_path / "out.json.partial"), {"images": COUNT}
    state = autoattack_progress.State(path, description)
    state.attack("apgd-ce").update(attacked=2, broken=[1])
    state.save()
    assert autoattack_progress.State(path, description).attacks == state.attacks
    with open(path) as file:
        content = json.load(file)
    content["attacks"][0]["broken"] = [0]
    with open(path, "w") as file:
        json.dump(content, file)
    with pytest.raises(ResumeError, match="out.json.partial is damaged: remove it"):
        autoattack_progress.State(path, description)


def test_a_check_that_another_process_is_at_is_refused(data, checked, tmp_path):
    with locks.lock_file(str(tmp_path / "out.json")):
        with pytest.raises(ResumeError, match="out.json is in use by another run"):
            checked(Fake(data, SUCCESSES), tmp_path / "out.json", FOUND)
        checked(Fake(data, SUCCESSES), tmp_path / "other.json", FOUND)
    assert os.listdir(str(tmp_path)) == ["other.json"]
