"""A training's folder: copied, moved, damaged, killed at any point, trained on, kept to one."""

import filecmp
import json
import os
import shutil

import pytest

from empir.data import mnist
from empir.errors import CheckpointError, EmpirError, ResumeError
from empir.models import checkpoints
from empir.records import locks, provenance, runs
from empir.training import loop, train, training_folder
from tests.support.kills import killed_runs, limited_files
from tests.support.trainings import killed_after, linear

pytestmark = pytest.mark.slow  # it trains networks

FILES = ["checkpoint", "model.data-00000-of-00001", "model.index", "model.meta", "training.json"]


@pytest.fixture(scope="module")
def data():
    """Forty images."""
    return mnist.load(sample=True).first(40)


@pytest.fixture(autouse=True)
def no_provenance(monkeypatch):
    """Records without the commit, for which git is asked in processes."""
    monkeypatch.setattr(provenance, "of_run", dict)


def folder_digest(folder):
    """Digest of the weights in a folder."""
    return checkpoints.digest(checkpoints.read(str(folder)))


def record(folder):
    """training.json of a folder."""
    with open(os.path.join(str(folder), "training.json")) as file:
        return json.load(file)


def run(folder, data, resume=False, changes=None, **arguments):
    """Train in a folder, of 2 epochs unless told otherwise; the digest of the weights."""
    settings = linear(**dict(dict(epochs=2), **(changes or {})))
    arrays = train(settings, data, str(folder), resume=resume, progress=False, **arguments)
    return checkpoints.digest(arrays)


@pytest.fixture(scope="module")
def whole(data):
    """Digest of the weights of two epochs."""
    return checkpoints.digest(train(linear(epochs=2), data, progress=False))


@pytest.fixture
def unfinished(data, tmp_path, monkeypatch):
    """A folder with the state after one of two epochs."""
    folder = str(tmp_path / "unfinished")
    with killed_after(monkeypatch, 3):
        run(folder, data)
    return folder


def test_a_training_that_is_killed_anywhere_resumes_to_the_same_files(data, tmp_path, monkeypatch):
    def once(folder, resume=False):
        return run(folder, data, resume, {"epochs": 1})

    expected, points = once(tmp_path / "whole"), 0
    for number in killed_runs(monkeypatch, lambda number: once(tmp_path / str(number))):
        folder, points = tmp_path / str(number), points + 1
        # No command takes it for a network, unless it is whole, or for a folder of something else.
        assert (
            not folder.exists()
            or training_folder.is_free(str(folder))
            or training_folder.is_unfinished(str(folder))
            or sorted(name for name in os.listdir(str(folder)) if name[0] != ".") == FILES
        )
        assert once(folder, resume=True) == expected
        assert sorted(os.listdir(str(folder))) == FILES
        # TensorFlow draws a name in each model.meta, which nothing reads.
        same, _, _ = filecmp.cmpfiles(str(tmp_path / "whole"), str(folder), FILES[:3], False)
        assert same == FILES[:3] and record(folder) == record(tmp_path / "whole")
        shutil.rmtree(str(folder))
    # The state's folder and two files; four files of the checkpoint and their folder, made and
    # removed; training.json; the state's new name, its files and folder; the lock.
    assert points >= 15


@pytest.mark.parametrize("keep_state", [False, True])
def test_more_epochs_are_the_same_as_at_once(data, tmp_path, caplog, keep_state, whole):
    caplog.set_level("INFO", "empir")
    folder = str(tmp_path / "member")
    run(folder, data, changes={"epochs": 1}, keep_state=keep_state)
    assert sorted(os.listdir(folder)) == sorted(FILES + ["final-state"] * keep_state)
    with pytest.raises(ResumeError, match="holds a trained network: --resume"):
        run(folder, data)
    caplog.clear()
    assert run(folder, data, resume=True) == whole == folder_digest(folder)
    assert ("resuming after epoch 1" in caplog.text) == keep_state
    assert ("trained again from the beginning" in caplog.text) == (not keep_state)
    assert sorted(os.listdir(folder)) == FILES and record(folder)["epochs"] == 2
    # Now it is over: nothing is trained, and fewer epochs are refused.
    caplog.clear()
    before = os.stat(os.path.join(folder, "model.index")).st_mtime_ns
    assert run(folder, data, resume=True) == whole
    assert os.stat(os.path.join(folder, "model.index")).st_mtime_ns == before
    with pytest.raises(ResumeError, match="was trained for 2 epochs, more than the 1"):
        run(folder, data, resume=True, changes={"epochs": 1})


def test_a_training_on_that_is_killed_keeps_the_network_and_goes_on(
    data, tmp_path, monkeypatch, whole
):
    folder = str(tmp_path / "member")
    first = run(folder, data, changes={"epochs": 1}, keep_state=True)
    with killed_after(monkeypatch, 1):
        run(folder, data, resume=True)
    assert folder_digest(folder) == first and training_folder.is_unfinished(folder)
    assert run(folder, data, resume=True) == whole


@pytest.mark.parametrize("epochs", [2, 3])
def test_an_unfinished_training_may_get_more_epochs(data, unfinished, epochs):
    expected = checkpoints.digest(train(linear(epochs=epochs), data, progress=False))
    assert run(unfinished, data, resume=True, changes={"epochs": epochs}) == expected


@pytest.mark.parametrize("changes", [{"seed": 6}, {"batch_size": 10}, {"learning_rate": 0.1}])
def test_another_training_is_refused(data, tmp_path, unfinished, changes):
    over = str(tmp_path / "over")
    run(over, data, changes={"epochs": 1})
    for folder in (unfinished, over):
        with pytest.raises(ResumeError, match="%s was" % list(changes)[0]) as error:
            run(folder, data, resume=True, changes=changes)
        assert folder in str(error.value) and "\n" not in str(error.value)
    # Not even where nothing says what the state is of, but the state itself.
    os.remove(os.path.join(unfinished, runs.TRAINING, "run.json"))
    with pytest.raises(ResumeError, match="state.json is the state of another training"):
        run(unfinished, data, resume=True, changes=changes)
    with pytest.raises(ResumeError, match="--resume"):
        run(unfinished, data)


def test_the_state_of_a_lost_run_json_is_still_this_trainings(data, unfinished, whole):
    os.remove(os.path.join(unfinished, runs.TRAINING, "run.json"))
    assert run(unfinished, data, resume=True) == whole


def test_a_checkpoint_from_elsewhere_is_not_overwritten(data, tmp_path):
    folder = str(tmp_path / "member")
    checkpoints.save(folder, train(linear(), data, progress=False))
    for resume in (False, True):
        with pytest.raises(ResumeError, match="was not trained there: use another folder"):
            run(folder, data, resume)


@pytest.mark.parametrize("place", [shutil.copytree, shutil.move])
def test_a_folder_may_be_copied_and_moved(data, tmp_path, unfinished, caplog, place, whole):
    caplog.set_level("INFO", "empir")
    other = str(tmp_path / "other")
    place(unfinished, other)
    if os.path.isdir(unfinished):  # what the copy must not read
        for name in os.listdir(os.path.join(unfinished, runs.TRAINING)):
            with open(os.path.join(unfinished, runs.TRAINING, name), "wb"):
                pass
    assert run(other, data, resume=True) == whole
    assert "resuming after epoch 1, step 2" in caplog.text


def _edit(change):
    def edit(path):
        with open(path, "r+b") as file:
            data = change(bytearray(file.read()))
            file.seek(0)
            file.truncate()
            file.write(data)

    return edit


def _flip(data):
    data[len(data) // 2] ^= 1
    return data


def _pipe(path):
    os.remove(path)
    os.mkfifo(path)


#: File of the state and what happens to it.
DAMAGE = {
    "no index": ("state-2.index", os.remove),
    "no data": ("state-2.data-00000-of-00001", os.remove),
    "no progress": ("state.json", os.remove),
    "a bit of the data": ("state-2.data-00000-of-00001", _edit(_flip)),
    "a cut index": ("state-2.index", _edit(lambda data: data[:-9])),
    "an empty progress": ("state.json", _edit(lambda data: b"")),
    "a list": ("state.json", _edit(lambda data: b"[]")),
    "an edited progress": ("state.json", _edit(lambda d: d.replace(b'"step": 2', b'"step": 4'))),
    "a pipe as index": ("state-2.index", _pipe),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_state_is_named_and_computed_again(data, unfinished, caplog, case, whole):
    name, damage = DAMAGE[case]
    path = os.path.join(unfinished, runs.TRAINING, name)
    damage(path)
    assert run(unfinished, data, resume=True) == whole
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert path in line and "starts from the beginning" in line and "\n" not in line
    assert sorted(os.listdir(unfinished)) == FILES


def test_a_pipe_as_progress_is_refused(data, unfinished):
    path = os.path.join(unfinished, runs.TRAINING, "state.json")
    _pipe(path)
    with pytest.raises(ResumeError, match="state.json is not a regular file: remove it"):
        run(unfinished, data, resume=True)


def test_nothing_in_the_state_points_outside(data, unfinished, tmp_path):
    state = os.path.join(unfinished, runs.TRAINING)
    for name in os.listdir(state):
        with open(os.path.join(state, name), "rb") as file:
            assert str(tmp_path).encode("utf8") not in file.read(), name
    with open(os.path.join(state, "state.json")) as file:
        content = json.load(file)
    content.pop("sha256")
    content["prefix"] = "../elsewhere/state-2"
    content["sha256"] = runs.digest(content)
    with open(os.path.join(state, "state.json"), "w") as file:
        json.dump(content, file)
    shutil.copytree(state, str(tmp_path / "elsewhere"))
    assert training_folder.Folder(unfinished, {"epochs": 2}).progress() is None


def test_a_second_training_in_the_folder_is_refused(data, tmp_path):
    folder = str(tmp_path / "member")
    with locks.lock(folder):
        with pytest.raises(ResumeError, match="in use by another run") as error:
            run(folder, data)
        assert folder in str(error.value)
    assert not os.path.exists(folder)


@pytest.mark.parametrize("logdir", ["file/logs", "file"])
def test_a_logdir_that_cannot_be_written_is_named_before_training(data, tmp_path, logdir):
    (tmp_path / "file").write_text("")
    logdir, folder = str(tmp_path / logdir), str(tmp_path / "member")
    with pytest.raises(EmpirError, match="--logdir=.* cannot be written") as error:
        run(folder, data, logdir=logdir)
    assert logdir in str(error.value) and "\n" not in str(error.value)
    assert os.listdir(str(tmp_path)) == ["file"]


@pytest.mark.parametrize("size", [0, 3000, 40000])
def test_a_full_disk_is_one_line_that_names_the_folder(data, tmp_path, size, whole):
    folder = str(tmp_path / "member")
    with limited_files(size), pytest.raises(EmpirError) as error:
        run(folder, data, test=data)
    assert folder in str(error.value) and "\n" not in str(error.value)
    assert run(folder, data, resume=True) == whole and sorted(os.listdir(folder)) == FILES


def test_a_full_disk_of_summaries_is_one_line(data, tmp_path):
    with limited_files(2000), pytest.raises(EmpirError, match="--logdir=.*written") as error:
        train(linear(), data, logdir=str(tmp_path), progress=False)
    assert "\n" not in str(error.value)


#: Settings that are out of range, and what the error says.
BAD = [
    ({"epochs": 2**31}, "epochs=2147483648"),
    ({"epochs": 1.5}, "epochs=1.5"),
    ({"batch_size": True}, "batch_size=True"),
    ({"learning_rate": float("inf")}, "learning_rate=inf"),
    ({"learning_rate": float("nan")}, "learning_rate=nan"),
    ({"adam_epsilon": 0.0}, "adam_epsilon=0"),
    ({"seed": 0.5}, "seed=0.5"),
    ({"options": {"nb_filters": 10**9}}, "nb_filters=1000000000 must be an integer, 1..4096"),
    ({"options": {"nb_filters": 2.0}}, "nb_filters=2.0"),
]


@pytest.mark.parametrize("changes, says", BAD, ids=[says for _, says in BAD])
def test_settings_out_of_range_leave_nothing(data, tmp_path, changes, says):
    with pytest.raises(EmpirError) as error:
        run(tmp_path / "member", data, changes=changes)
    assert says in str(error.value) and os.listdir(str(tmp_path)) == []


def test_a_checkpoint_of_a_finished_training_that_was_changed_is_refused(data, tmp_path):
    folder = str(tmp_path / "member")
    run(folder, data, changes={"epochs": 1})
    checkpoints.save(folder, train(linear(seed=9), data, progress=False))
    with pytest.raises(CheckpointError, match="training.json is not of the weights beside it"):
        run(folder, data, resume=True, changes={"epochs": 1})


def test_saving_within_an_epoch_replaces_the_state(data, tmp_path, monkeypatch, whole):
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1)
    folder = str(tmp_path / "member")
    with killed_after(monkeypatch, 3):
        run(folder, data)
    state = os.listdir(os.path.join(folder, runs.TRAINING))
    assert sorted(state) == ["run.json", "state-3.data-00000-of-00001", "state-3.index"] + [
        "state.json"
    ]
    assert run(folder, data, resume=True) == whole
