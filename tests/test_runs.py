"""Resumable runs: finished chunks, the file they become, and whose state a folder holds."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from empir import runs
from empir.errors import EmpirError, ResumeError

KEYS = ("label", "members", "images")
STARTS = (0, 3, 6)


def chunks(random):
    """Three chunks of 3, 3 and 1 examples, one array of them not contiguous."""
    for start, count in zip(STARTS, (3, 3, 1)):
        yield start, {
            "label": np.arange(start, start + count),
            "members": random.randint(0, 10, (3, count)).astype(np.int16).T,
            "images": random.uniform(size=(count, 4, 4, 1)).astype(np.float32),
        }


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    """An empty store of either kind."""
    if request.param == "memory":
        return runs.ChunkStore()
    folder = tmp_path / runs.PARTIAL
    folder.mkdir()
    return runs.ChunkStore(str(folder))


@pytest.fixture
def expected(store, random):
    """Fill the store; returns the concatenated arrays."""
    added = list(chunks(random))
    for start, arrays in added:
        store.add(start, arrays)
    return {key: np.concatenate([arrays[key] for _, arrays in added]) for key in KEYS}


def test_a_chunk_is_there_once_added(store, random):
    assert not any(start in store for start in STARTS)
    start, arrays = list(chunks(random))[1]
    store.add(start, arrays)
    assert [start in store for start in STARTS] == [False, True, False]


def test_a_chunk_holds_the_arrays_that_were_added_and_no_others(store, random):
    assert not store.holds(3, [])
    store.add(3, dict(chunks(random))[3])
    assert store.holds(3, ["label", "images"]) and not store.holds(3, ["label", "shown"])
    assert not store.holds(0, ["label"])


def test_columns_are_concatenated_in_the_given_order(store, expected):
    for key in KEYS:
        column = store.column(key, STARTS)
        assert column.dtype == expected[key].dtype
        np.testing.assert_array_equal(column, expected[key])
    np.testing.assert_array_equal(store.column("label", (6, 0)), [6, 0, 1, 2])


def test_the_npz_holds_the_columns_as_numpy_reads_them(store, expected, tmp_path):
    path = str(tmp_path / "examples.npz")
    store.write_npz(path, KEYS, STARTS)
    with np.load(path, allow_pickle=False) as archive:
        assert archive.files == list(KEYS)
        for key in KEYS:
            assert archive[key].dtype == expected[key].dtype
            np.testing.assert_array_equal(archive[key], expected[key])
    assert [name for name in os.listdir(str(tmp_path)) if name.endswith(".writing")] == []


def test_the_npz_holds_only_the_keys_asked_for(store, expected, tmp_path):
    path = str(tmp_path / "examples.npz")
    store.write_npz(path, ["images", "label"], STARTS)
    with np.load(path) as archive:
        assert archive.files == ["images", "label"]


def test_the_npz_is_the_same_bytes_at_every_writing_and_from_every_store(tmp_path):
    (tmp_path / runs.PARTIAL).mkdir()
    written = []
    for number, folder in enumerate([None, str(tmp_path / runs.PARTIAL), None]):
        store = runs.ChunkStore(folder)
        for start, arrays in chunks(np.random.RandomState(0)):
            store.add(start, arrays)
        path = tmp_path / ("%d.npz" % number)
        store.write_npz(str(path), KEYS, STARTS)
        os.utime(str(path), (number, number))
        written.append(path.read_bytes())
    assert written[0] == written[1] == written[2]


def test_a_store_on_disk_finds_the_chunks_of_an_earlier_process(tmp_path, random):
    added = dict(chunks(random))
    runs.ChunkStore(str(tmp_path)).add(3, added[3])
    later = runs.ChunkStore(str(tmp_path))
    assert [start in later for start in STARTS] == [False, True, False]
    np.testing.assert_array_equal(later.column("images", [3]), added[3]["images"])


def test_a_chunk_that_was_being_written_does_not_count(tmp_path, random, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    store = runs.ChunkStore(str(tmp_path))
    _, arrays = next(chunks(random))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            store.add(0, arrays)
    assert 0 not in store and 0 not in runs.ChunkStore(str(tmp_path))
    store.add(0, arrays)
    np.testing.assert_array_equal(store.column("label", [0]), [0, 1, 2])


def test_a_removed_store_is_gone(store, expected, tmp_path):
    store.remove()
    assert not any(start in store for start in STARTS)
    assert not (tmp_path / runs.PARTIAL).exists()


RUN = {"attack": {"eps": 0.3, "name": "pgd"}, "seed": 1237, "precisions": ("w2a4", "fp")}


@pytest.fixture
def claimed(tmp_path):
    """A folder with the state of RUN."""
    folder = str(tmp_path / "out" / runs.PARTIAL)
    runs.claim(folder, RUN, False, "evaluation")
    return folder


@pytest.mark.parametrize("resume", [False, True])
def test_a_fresh_folder_is_claimed(tmp_path, resume):
    folder = str(tmp_path / "new" / runs.PARTIAL)
    runs.claim(folder, RUN, resume, "evaluation")
    with open(os.path.join(folder, "run.json")) as file:
        assert json.load(file) == json.loads(json.dumps(RUN))
    assert os.listdir(folder) == ["run.json"]


def test_an_unfinished_run_is_continued_with_resume_only(claimed):
    runs.claim(claimed, RUN, True, "evaluation")
    with pytest.raises(ResumeError, match="unfinished evaluation: --resume") as error:
        runs.claim(claimed, RUN, False, "evaluation")
    assert claimed in str(error.value)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "changed, says",
    [
        ({"seed": 1}, "seed was 1237, now 1"),
        ({"attack": {"eps": 0.1, "name": "pgd"}}, 'attack was {"eps": 0.3, "name": "pgd"}, now'),
        ({"batch_size": 128}, "batch_size was null, now 128"),
    ],
)
def test_another_runs_state_is_refused_with_what_differs(claimed, resume, changed, says):
    with open(os.path.join(claimed, "run.json")) as file:
        before = file.read()
    with pytest.raises(ResumeError) as error:
        runs.claim(claimed, dict(RUN, **changed), resume, "evaluation")
    message = str(error.value)
    assert says in message and claimed in message and "another evaluation" in message
    assert "precisions" not in message and "\n" not in message
    with open(os.path.join(claimed, "run.json")) as file:
        assert file.read() == before


@pytest.mark.parametrize("content", [b"", b'{"seed": 12', b"\xff\xfe\0", b"[]", b"null"])
def test_an_unreadable_description_is_refused(claimed, content):
    path = os.path.join(claimed, "run.json")
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(ResumeError) as error:
        runs.claim(claimed, RUN, True, "evaluation")
    assert path in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    folder = str(tmp_path / "file" / runs.PARTIAL)
    with pytest.raises(EmpirError, match="Not a directory") as error:
        runs.claim(folder, RUN, False, "evaluation")
    assert folder in str(error.value)


@pytest.mark.parametrize(
    "before, now, expected",
    [
        ({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 2]}, []),
        ({"a": 1}, {"a": 2}, ["a was 1, now 2"]),
        ({"a": "x"}, {}, ['a was "x", now null']),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, ["a was 1, now 2", "b was 1, now 2"]),
    ],
)
def test_differences_are_told_per_key(before, now, expected):
    assert runs.differences(before, now) == expected


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "result.json"
    for text in ("first\n", "second, longer\n", "3\n"):
        runs.write_atomically(str(path), text)
        assert path.read_text() == text
        runs.write_atomically(str(path), text.encode("utf8")[::-1])
        assert path.read_text() == text[::-1]
    assert os.listdir(str(tmp_path)) == ["result.json"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_writing_leaves_the_old_file(tmp_path, monkeypatch, failing):
    def no_space(*arguments):
        raise OSError(28, "No space left on device")

    path = tmp_path / "result.json"
    path.write_text("old\n")
    monkeypatch.setattr(os, failing, no_space)
    with pytest.raises(OSError, match="No space left"):
        runs.write_atomically(str(path), "new\n")
    assert path.read_text() == "old\n"


def test_a_folder_is_kept_to_one_run_and_left_as_it_was(tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    for path in (folder, tmp_path / "new" / "newer"):
        before = path.exists()
        with runs.lock(str(path)):
            with pytest.raises(ResumeError) as error:
                with runs.lock(str(path)):
                    pytest.fail("two runs had one folder")
            assert str(path) in str(error.value) and "\n" not in str(error.value)
        with runs.lock(str(path)):
            pass
        assert path.exists() == before
    assert os.listdir(str(tmp_path)) == ["there"] and os.listdir(str(folder)) == []


def test_a_folder_that_a_run_made_stays_if_something_is_in_it(tmp_path):
    with runs.lock(str(tmp_path / "new")):
        (tmp_path / "new" / "result.json").write_text("{}")
    assert os.listdir(str(tmp_path / "new")) == ["result.json"]


HOLD = """
import sys, time
from empir import runs
with runs.lock(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_leaves_no_lock(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=ROOT),
    )
    try:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(ResumeError, match="in use by another run"), runs.lock(str(tmp_path)):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with runs.lock(str(tmp_path)):
        assert os.listdir(str(tmp_path)) == [runs.LOCK]
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("put", [os.mkdir, lambda path: os.symlink("elsewhere", path)])
def test_a_lock_that_is_no_file_is_named(tmp_path, put):
    put(str(tmp_path / runs.LOCK))
    with pytest.raises(EmpirError) as error:
        with runs.lock(str(tmp_path)):
            pass
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    assert os.listdir(str(tmp_path)) == [runs.LOCK]


def test_a_folder_that_is_a_file_cannot_be_locked(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/folder"):
        with pytest.raises(EmpirError, match="cannot write to"):
            with runs.lock(str(tmp_path / name)):
                pass
