"""Resumable runs on disk: finished chunks are kept, and another run's state is refused.

While a run is under way its folder holds `partial/`: run.json, which says what the run computes,
and one file per finished chunk. When all chunks are there they become `examples.npz`, written as a
stream so that memory does not grow with their number.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import zipfile
from typing import Dict, List, Union

import numpy as np

from empir.errors import EmpirError, ResumeError

PARTIAL = "partial"  # state of an unfinished evaluation, in its --out
TRAINING = "training-state"  # state of an unfinished training, in its --model_path
LOCK = ".lock"  # locked by the process that writes to the folder it lies in

#: What a file system without locks answers.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def write_atomically(path: str, content: Union[str, bytes]):
    """Write a file so that it is either complete or as it was before."""
    with _replacing(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf8"))


@contextlib.contextmanager
def _replacing(path):
    """A binary file that takes the place of `path` once it is written and on the disk."""
    temporary = path + ".writing"
    with open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def check_writable(folder: str):
    """Raise `EmpirError` if `folder` is not, or could not be made, a folder to write to."""
    if not folder:
        raise EmpirError("an empty --out names no folder")
    path = os.path.abspath(folder)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path) or not os.access(path, os.W_OK):
        raise EmpirError("cannot write to %s: %s is not a writable folder" % (folder, path))


def check_file(path: str):
    """Raise `EmpirError` if a file cannot be written at `path`; its folder may be missing."""
    check_writable(os.path.dirname(path) or ".")
    if os.path.isdir(path):
        raise EmpirError("--out=%s is a folder: name a file" % path)


def write_json(path: str, record: dict):
    """Write a record as a JSON file, complete or not at all, into a folder made if missing."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    write_atomically(path, json.dumps(record, indent=1) + "\n")


def differences(before: dict, now: dict) -> List[str]:
    """What two flat descriptions of a run disagree on, as "key was A, now B"."""
    return [
        "%s was %s, now %s" % ((key,) + tuple(_plain(run.get(key)) for run in (before, now)))
        for key in sorted(set(before) | set(now))
        if before.get(key) != now.get(key)
    ]


def _plain(value):
    return json.dumps(value, sort_keys=True)


def read_json(path: str) -> dict:
    """A JSON object from a file; `ResumeError` if the file holds something else."""
    try:
        with open(path) as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise ResumeError("%s is unreadable (%s): remove it" % (path, error))
    if not isinstance(content, dict):
        raise ResumeError("%s is unreadable (no JSON object): remove it" % path)
    return content


def claim(folder: str, description: dict, resume: bool, what: str):
    """Make `folder` hold the state of this run, described in its run.json.

    Raises:
      ResumeError: if it holds another run's state, or this one's and `resume` is False.
      EmpirError: if it cannot be written.
    """
    record = os.path.join(folder, "run.json")
    description = json.loads(json.dumps(description))
    if os.path.exists(record):
        changed = differences(read_json(record), description)
        if changed:
            raise ResumeError(
                "%s is the state of another %s (%s): use another folder, or remove it to start over"
                % (folder, what, "; ".join(changed))
            )
        if not resume:
            raise ResumeError(
                "%s holds an unfinished %s: --resume continues it, removing it starts over"
                % (folder, what)
            )
        return
    try:
        os.makedirs(folder, exist_ok=True)
        write_atomically(record, json.dumps(description, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise EmpirError("cannot write to %s: %s" % (folder, error.strerror))


@contextlib.contextmanager
def lock(folder: str):
    """Keep a folder to this process while the block runs; the folder is made if it is missing.

    The operating system holds the lock, on the file `LOCK` in the folder, so a process that is
    killed leaves none behind. At the end the file is removed, and so are folders that this call
    made and that are still empty. On a file system without locks nothing is kept out.

    Raises:
      ResumeError: if another process, or another block of this one, has the folder.
      EmpirError: if the folder cannot be made or written to.
    """
    made = _missing_folders(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        file = _lock_file(os.path.join(folder, LOCK))
    except BlockingIOError:
        raise ResumeError(
            "%s is in use by another run: wait until it ends, or use another folder" % folder
        )
    except OSError as error:
        raise EmpirError("cannot write to %s: %s" % (folder, error.strerror))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.remove(os.path.join(folder, LOCK))
        os.close(file)
        with contextlib.suppress(OSError):
            for path in made:
                os.rmdir(path)


def _missing_folders(folder):
    """The folders that making `folder` makes, the innermost first."""
    missing, path = [], os.path.abspath(folder)
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _lock_file(path):
    """Descriptor of the locked file at `path`; `BlockingIOError` if it is locked already."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(file)
                raise
        # Who had the lock before may have removed the file between our opening and locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.lstat(path)):
                return file
        os.close(file)


class ChunkStore:
    """The finished chunks of a run: start index -> arrays of one row per example.

    Args:
      folder: where to keep them; None keeps them in memory.
    """

    def __init__(self, folder=None):
        self._folder = folder
        self._memory: Dict[int, dict] = {}

    def _path(self, start):
        return os.path.join(self._folder, "chunk-%08d.npz" % start)

    def __contains__(self, start: int) -> bool:
        if self._folder is None:
            return start in self._memory
        return os.path.exists(self._path(start))

    def holds(self, start: int, keys) -> bool:
        """Whether a chunk is finished and has all these arrays."""
        if start not in self:
            return False
        if self._folder is None:
            return set(keys) <= set(self._memory[start])
        with np.load(self._path(start), allow_pickle=False) as archive:
            return set(keys) <= set(archive.files)

    def add(self, start: int, arrays: dict):
        """Keep a finished chunk; on disk it appears complete or not at all."""
        if self._folder is None:
            self._memory[start] = arrays
            return
        with _replacing(self._path(start)) as file:
            np.savez(file, **arrays)

    def _array(self, start, key):
        if self._folder is None:
            return self._memory[start][key]
        with np.load(self._path(start), allow_pickle=False) as archive:
            return archive[key]

    def column(self, key: str, starts) -> np.ndarray:
        """One array over all chunks, concatenated."""
        return np.concatenate([self._array(start, key) for start in starts])

    def write_npz(self, path: str, keys, starts):
        """Write the chunks' arrays as one .npz, byte for byte the same at every writing."""
        with _replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
            for key in keys:
                self._write_array(archive, key, starts)

    def _write_array(self, archive, key, starts):
        first = self._array(starts[0], key)
        rows = sum(len(self._array(start, key)) for start in starts)
        header = {
            "descr": np.lib.format.dtype_to_descr(first.dtype),
            "fortran_order": False,
            "shape": (rows,) + first.shape[1:],
        }
        entry = zipfile.ZipInfo(key + ".npy")  # dated 1980, unlike one made from a file
        entry.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(entry, "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for start in starts:
                file.write(np.ascontiguousarray(self._array(start, key)).tobytes())

    def remove(self):
        """Delete the chunks and the folder that holds them."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
        self._memory.clear()
