"""One process at a time writes to a folder, and one that is killed keeps nobody out."""

import os
import subprocess
import sys

import pytest

from empir.errors import EmpirError, ResumeError
from empir.records import locks
from tests.support import ROOT


def test_a_folder_is_kept_to_one_run_and_left_as_it_was(tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    for path in (folder, tmp_path / "new" / "newer"):
        before = path.exists()
        with locks.lock(str(path)):
            with pytest.raises(ResumeError) as error:
                with locks.lock(str(path)):
                    pytest.fail("two runs had one folder")
            assert str(path) in str(error.value) and "\n" not in str(error.value)
        with locks.lock(str(path)):
            pass
        assert path.exists() == before
    assert os.listdir(str(tmp_path)) == ["there"] and os.listdir(str(folder)) == []


def test_a_folder_that_a_run_made_stays_if_something_is_in_it(tmp_path):
    with locks.lock(str(tmp_path / "new")):
        (tmp_path / "new" / "result.json").write_text("{}")
    assert os.listdir(str(tmp_path / "new")) == ["result.json"]


HOLD = """
import sys, time
from empir.records import locks
with locks.lock(sys.argv[1]):
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
        with pytest.raises(ResumeError, match="in use by another run"), locks.lock(str(tmp_path)):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with locks.lock(str(tmp_path)):
        assert os.listdir(str(tmp_path)) == [locks.LOCK]
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("put", [os.mkdir, lambda path: os.symlink("elsewhere", path)])
def test_a_lock_that_is_no_file_is_named(tmp_path, put):
    put(str(tmp_path / locks.LOCK))
    with pytest.raises(EmpirError) as error:
        with locks.lock(str(tmp_path)):
            pass
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    assert os.listdir(str(tmp_path)) == [locks.LOCK]


def test_a_folder_that_is_a_file_cannot_be_locked(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/folder"):
        with pytest.raises(EmpirError, match="cannot write to"):
            with locks.lock(str(tmp_path / name)):
                pass
