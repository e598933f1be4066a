"""Resumable runs: finished chunks, the file they become, and whose state a folder holds."""

import errno
import json
import os
import stat
import tempfile

import pytest

from empir.errors import EmpirError, ResumeError
from empir.records import runs
from tests.support.kills import limited_files

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
    with pytest.raises(EmpirError, match="cannot write .*result.json: No space left"):
        runs.write_atomically(str(path), "new\n")
    assert os.listdir(str(tmp_path)) == ["result.json"]
    assert path.read_text() == "old\n"


def _device(path):
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # as /dev/null
    except PermissionError:
        pytest.skip("only root makes devices")


def _link_to_pipe(path):
    os.mkfifo(path + "-pipe")
    os.symlink(path + "-pipe", path)


#: What stands where a file is to be written, and what is said of it.
NO_FILES = {
    "a pipe": (os.mkfifo, "it is not a regular file"),
    "a device": (_device, "it is not a regular file"),
    "a folder": (os.mkdir, "is a folder|it is not a regular file"),
    "a link to nothing": (lambda path: os.symlink("nowhere", path), "it is a link to nothing"),
    "a link to itself": (lambda path: os.symlink(path, path), "it is a link to nothing"),
    "a link to a pipe": (_link_to_pipe, "it is not a regular file"),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_only_regular_files_are_replaced(tmp_path, kind):
    path = str(tmp_path / "result.json")
    put, says = NO_FILES[kind]
    put(path)
    before = os.lstat(path)
    for write in (
        lambda: runs.check_file(path),
        lambda: runs.write_json(path, {}),
        lambda: runs.write_atomically(path, "text"),
    ):
        with pytest.raises(EmpirError, match=says) as error:
            write()
        assert path in str(error.value) and "\n" not in str(error.value)
    assert os.path.samestat(os.lstat(path), before)
    assert not any(name.endswith(".writing") for name in os.listdir(str(tmp_path)))


def test_a_pipe_beside_the_file_is_not_opened(tmp_path):
    os.mkfifo(str(tmp_path / "result.json.writing"))
    with pytest.raises(EmpirError, match="result.json.writing: it is not a regular file"):
        runs.write_json(str(tmp_path / "result.json"), {})


def test_a_link_to_a_file_stays_and_the_file_is_written(tmp_path):
    for folder in ("there", "here"):
        (tmp_path / folder).mkdir()
    link, target = tmp_path / "here" / "result.json", tmp_path / "there" / "result.json"
    target.write_text("old")
    link.symlink_to(os.path.join("..", "there", "result.json"))
    runs.check_file(str(link))
    runs.write_json(str(link), {"a": 1})
    assert link.is_symlink() and json.loads(target.read_text()) == {"a": 1}
    assert os.listdir(str(tmp_path / "here")) == os.listdir(str(tmp_path / "there"))


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_an_empty_name_is_refused(name):
    for check in (runs.check_writable, runs.check_file):
        with pytest.raises(EmpirError, match="--out=.*is empty: name a f"):
            check(name)


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: os.symlink("nowhere", path)])
def test_what_is_no_folder_is_not_written_to(tmp_path, put):
    put(str(tmp_path / "out"))
    for name in ("out", "out/deeper"):
        with pytest.raises(EmpirError, match="out is not a writable folder"):
            runs.check_writable(str(tmp_path / name))
        with pytest.raises(EmpirError, match="cannot write to"):
            runs.make_folder(str(tmp_path / name))


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_not_read(tmp_path, put):
    path = str(tmp_path / "run.json")
    put(path)
    with pytest.raises(ResumeError, match="run.json is unreadable .not a regular file.: remove it"):
        runs.claim(str(tmp_path), RUN, True, "evaluation")
    with pytest.raises(OSError, match="not a regular file"):
        runs.read_regular(path)
    with pytest.raises(OSError, match="not a regular file"):
        runs.file_digest(path)


@pytest.mark.parametrize("left, is_kept", [("chunk-00000000.npz", True), ("x.writing", False)])
def test_state_without_its_description_is_not_taken_without_resume(tmp_path, left, is_kept):
    (tmp_path / left).write_text("")
    if is_kept:
        with pytest.raises(ResumeError, match="an unfinished evaluation without its run.json"):
            runs.claim(str(tmp_path), RUN, False, "evaluation")
    else:
        runs.claim(str(tmp_path), RUN, False, "evaluation")
    runs.claim(str(tmp_path), RUN, True, "evaluation")
    assert sorted(os.listdir(str(tmp_path))) == sorted([left, "run.json"])


def test_a_full_temporary_folder_is_one_line(monkeypatch):
    with pytest.raises(EmpirError, match="cannot write temporary files: File too large: make room"):
        with runs.temporary_folder() as folder, limited_files(10):
            with open(os.path.join(folder, "images"), "wb") as file:
                file.write(b"0" * 100)
    assert not os.path.exists(folder)

    def nowhere(*_):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "mkdtemp", nowhere)
    with pytest.raises(EmpirError, match="^No usable temporary .*or set TMPDIR to a folder"):
        with runs.temporary_folder():
            pytest.fail("there is no temporary folder")


def test_a_description_is_told_by_its_digest_whatever_the_order():
    assert runs.digest({"a": 1, "b": (2,)}) == runs.digest({"b": [2], "a": 1})
    assert runs.digest({"a": 1}) != runs.digest({"a": 2})
