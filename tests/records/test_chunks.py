"""Chunks of runs: the file they become, and which are taken again."""

import gc
import os
import shutil

import numpy as np
import pytest

from empir.errors import EmpirError, ResumeError
from empir.records import runs
from empir.records.chunks import ChunkStore
from tests.support.kills import limited_files

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
        return ChunkStore()
    folder = tmp_path / runs.PARTIAL
    folder.mkdir()
    return ChunkStore(str(folder))


@pytest.fixture
def expected(store, random):
    """Fill the store; returns the concatenated arrays."""
    added = list(chunks(random))
    for start, arrays in added:
        store.add(start, len(arrays["label"]), arrays)
    return {key: np.concatenate([arrays[key] for _, arrays in added]) for key in KEYS}


def test_a_chunk_is_there_once_added(store, random):
    assert not any(store.holds(start, 3) for start in STARTS)
    start, arrays = list(chunks(random))[1]
    store.add(start, len(arrays["label"]), arrays)
    assert [store.holds(start, 3) for start in STARTS] == [False, True, False]


def test_a_chunk_holds_the_arrays_that_were_added_and_no_others(store, random):
    assert not store.holds(3, 3)
    store.add(3, 3, dict(chunks(random))[3])
    assert store.holds(3, 3, ["label", "images"]) and not store.holds(3, 3, ["label", "shown"])
    assert not store.holds(0, 3, ["label"])


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
        store = ChunkStore(folder)
        for start, arrays in chunks(np.random.RandomState(0)):
            store.add(start, len(arrays["label"]), arrays)
        path = tmp_path / ("%d.npz" % number)
        store.write_npz(str(path), KEYS, STARTS)
        os.utime(str(path), (number, number))
        written.append(path.read_bytes())
    assert written[0] == written[1] == written[2]


def test_a_store_on_disk_finds_the_chunks_of_an_earlier_process(tmp_path, random):
    added = dict(chunks(random))
    ChunkStore(str(tmp_path)).add(3, 3, added[3])
    later = ChunkStore(str(tmp_path))
    assert [later.holds(start, 3) for start in STARTS] == [False, True, False]
    np.testing.assert_array_equal(later.column("images", [3]), added[3]["images"])


def test_a_chunk_that_was_being_written_does_not_count(tmp_path, random, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    store = ChunkStore(str(tmp_path))
    _, arrays = next(chunks(random))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            store.add(0, 3, arrays)
    assert not store.holds(0, 3) and not ChunkStore(str(tmp_path)).holds(0, 3)
    store.add(0, 3, arrays)
    np.testing.assert_array_equal(store.column("label", [0]), [0, 1, 2])


def test_a_removed_store_is_gone(store, expected, tmp_path):
    store.remove()
    assert not any(store.holds(start, 3) for start in STARTS)
    assert not (tmp_path / runs.PARTIAL).exists()


def _resave(path, change):
    """Save a chunk's arrays anew after a change, its stamp as it was."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(path, **arrays)


def _flip(path):
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def _replace(path, put):
    os.unlink(path)
    put(path)


#: What happens to the chunk of rows 3 to 5, and what is said of it then.
DAMAGES = {
    "another chunk in its place": (lambda p: shutil.copy(p.replace("03", "00"), p), "rows 0 to 2"),
    "cut": (lambda p: os.truncate(p, os.path.getsize(p) // 2), "is damaged"),
    "a bit that changed": (_flip, "is damaged"),
    "fewer rows": (lambda p: _resave(p, lambda a: a.update(label=a["label"][:2])), "is damaged"),
    "an array less": (lambda p: _resave(p, lambda a: a.pop("members")), "is damaged"),
    "no stamp": (lambda p: _resave(p, lambda a: a.pop("stamp")), "does not say which run it is of"),
    "no JSON": (lambda p: _resave(p, lambda a: a.update(stamp=np.array("{"))), "is damaged"),
    "another stamp": (lambda p: _resave(p, lambda a: a.update(stamp=np.array("{}"))), "is damaged"),
    "empty": (lambda p: os.truncate(p, 0), "is damaged"),
    "an array": (lambda p: _replace(p, lambda p: np.save(open(p, "wb"), np.zeros(3))), "no .npz"),
    "a pipe": (lambda p: _replace(p, os.mkfifo), "not a regular file"),
    "a folder": (lambda p: _replace(p, os.mkdir), "not a regular file"),
    "an endless file": (lambda p: _replace(p, lambda p: os.symlink("/dev/zero", p)), "is a link"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_chunk_that_does_not_fit_is_named_and_does_not_count(tmp_path, random, caplog, damage):
    store = ChunkStore(str(tmp_path), "a run")
    for start, arrays in chunks(random):
        store.add(start, len(arrays["label"]), arrays)
    path = str(tmp_path / "chunk-00000003.npz")
    change, says = DAMAGES[damage]
    change(path)
    later = ChunkStore(str(tmp_path), "a run")
    assert later.holds(0, 3, KEYS) and later.holds(6, 1, KEYS) and not caplog.messages
    if says == "is a link":
        with pytest.raises(ResumeError, match="chunk-00000003.npz is a link: remove it"):
            later.holds(3, 3)
        return
    assert not later.holds(3, 3)
    (message,) = caplog.messages
    assert path in message and says in message and "\n" not in message


def test_a_chunk_of_another_run_or_of_other_rows_does_not_count(tmp_path, random, caplog):
    ChunkStore(str(tmp_path), "a run").add(0, 3, dict(chunks(random))[0])
    assert not ChunkStore(str(tmp_path), "another run").holds(0, 3)
    assert not ChunkStore(str(tmp_path), "a run").holds(0, 4)
    assert [message.split(" ", 1)[1] for message in caplog.messages] == [
        "is of another run; it is computed again",
        "holds rows 0 to 2; it is computed again",
    ]


def test_chunks_of_other_threads_are_taken_and_that_is_said_once(tmp_path, random, caplog):
    store = ChunkStore(str(tmp_path), "a run", "2 threads")
    for start, arrays in chunks(random):
        store.add(start, len(arrays["label"]), arrays)
    for how, told in (("2 threads", 0), ("1 threads", 1)):
        later = ChunkStore(str(tmp_path), "a run", how)
        assert later.holds(0, 3) and later.holds(3, 3)
        assert len(caplog.messages) == told
    assert "finished with 2 threads, goes on with 1 threads: numbers may differ" in caplog.text


def test_a_chunk_that_is_damaged_while_it_is_needed_is_named(tmp_path, random):
    store = ChunkStore(str(tmp_path))
    store.add(0, 3, dict(chunks(random))[0])
    (tmp_path / "chunk-00000000.npz").write_bytes(b"PK")
    with pytest.raises(ResumeError, match="chunk-00000000.npz is damaged"):
        store.column("label", [0])
    with pytest.raises(ResumeError, match="chunk-00000000.npz is damaged"):
        store.write_npz(str(tmp_path / "examples.npz"), KEYS, [0])
    assert os.listdir(str(tmp_path)) == ["chunk-00000000.npz"]


def test_a_store_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "partial").symlink_to("elsewhere")
    with pytest.raises(ResumeError, match="partial is a link: remove it"):
        ChunkStore(str(tmp_path / "partial"))


def test_what_is_not_the_stores_is_not_deleted_with_it(tmp_path, random, caplog):
    store = ChunkStore(str(tmp_path / "partial"))
    runs.claim(str(tmp_path / "partial"), {}, False, "evaluation")
    store.add(0, 3, dict(chunks(random))[0])
    for name in ("notes.txt", "chunk-00000003.npz.writing"):
        (tmp_path / "partial" / name).write_text("")
    store.remove()
    assert os.listdir(str(tmp_path / "partial")) == ["notes.txt"]
    assert "stays, as it holds notes.txt" in caplog.text
    (tmp_path / "partial" / "notes.txt").unlink()
    store.remove()
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("room", [0, 100, 300, 500])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, random, capfd, room):
    """The limit of a file's size answers as a full disk does, wherever the file is."""
    store = ChunkStore(str(tmp_path))
    arrays = dict(chunks(random))[0]
    store.add(0, 3, arrays)
    (tmp_path / "examples.npz").write_text("old")
    writers = {
        "chunk-00000003.npz": lambda: store.add(3, 3, arrays),
        "examples.npz": lambda: store.write_npz(str(tmp_path / "examples.npz"), KEYS, [0]),
        "result.json": lambda: runs.write_json(str(tmp_path / "result.json"), {"a": "b" * 1000}),
    }
    for name, write in writers.items():
        with limited_files(room), pytest.raises(EmpirError) as error:
            write()
        assert "cannot write %s: File too large" % (tmp_path / name) == str(error.value)
    assert sorted(os.listdir(str(tmp_path))) == ["chunk-00000000.npz", "examples.npz"]
    assert (tmp_path / "examples.npz").read_text() == "old"
    gc.collect()
    assert capfd.readouterr().err == ""  # zipfile's complaints of what it could not close
