"""The finished chunks of a run, each of which says whose it is and proves that it is whole.

On disk a chunk is an .npz of its arrays and of a stamp: a digest of what the run computes, which
rows the chunk is, and a checksum of the arrays. A chunk that was damaged, cut, moved from another
place or another run does not fit its stamp, and counts as missing. When all chunks are there they
become `examples.npz`, written as a stream so that memory does not grow with their number.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import zipfile
from typing import Callable, Dict, Optional

import numpy as np

from empir.errors import EmpirError, ResumeError
from empir.records import runs

log = logging.getLogger(__name__)

STAMP = "stamp"  # name of the array that holds a chunk's stamp, as JSON


class ChunkStore:
    """The finished chunks of a run: index of the first row -> arrays.

    Args:
      folder: where to keep them; None keeps them in memory.
      run: `runs.digest` of what the run computes.
      how: what else changes numbers, by rounding only, e.g. "2 threads": chunks of another are
        taken, which is said.

    Raises:
      ResumeError: if the folder is a symbolic link, which leads to another one.
    """

    def __init__(self, folder: Optional[str] = None, run: str = "", how: str = ""):
        self._folder, self._run, self._how = folder, run, how
        self._memory: Dict[int, dict] = {}
        self._told = False
        if folder is not None and os.path.islink(folder):
            raise _linked(folder)

    def _path(self, start):
        return os.path.join(self._folder, "chunk-%08d.npz" % start)

    def holds(self, start: int, rows: int, keys=()) -> bool:
        """Whether a chunk is finished and has all these arrays.

        A chunk on disk that is damaged or of another run or place is named in a log line, and does
        not count; reading it for this is the one time that its checksum is computed.

        Args:
          start: index of its first row.
          rows: how many rows it must have.
          keys: names of arrays.

        Raises:
          ResumeError: if it is a symbolic link, which leads out of the folder.
        """
        if self._folder is None:
            return start in self._memory and set(keys) <= set(self._memory[start])
        if os.path.islink(self._path(start)):
            raise _linked(self._path(start))
        if not os.path.lexists(self._path(start)):
            return False
        try:
            with self._opened(start) as archive:
                problem = self._problem(archive, start, rows)
                lacking = set(keys) - set(archive.files)
        except ResumeError as error:
            log.warning("%s; it is computed again", error)
            return False
        if problem:
            log.warning("%s %s; it is computed again", self._path(start), problem)
        return not problem and not lacking

    def _problem(self, archive, start, rows):
        """What does not fit a chunk's stamp, in words; None if all does."""
        if STAMP not in archive.files:
            return "does not say which run it is of"
        stamp = json.loads(str(archive[STAMP]))
        if stamp["run"] != self._run:
            return "is of another run"
        if (stamp["start"], stamp["rows"]) != (start, rows):
            return f"holds rows {stamp['start']} to {stamp['start'] + stamp['rows'] - 1}"
        if stamp["sha256"] != _checksum(archive, set(archive.files) - {STAMP}):
            return "is damaged"
        if stamp["how"] != self._how and not self._told:
            self._told = True
            words = "%s: finished with %s, goes on with %s: numbers may differ by rounding"
            log.warning(words, self._folder, stamp["how"], self._how)
        return None

    def add(self, start: int, rows: int, arrays: dict):
        """Keep a finished chunk; on disk it appears complete or not at all.

        Args:
          start: index of its first row.
          rows: how many rows it has.
          arrays: by name; those that `column` and `write_npz` are asked for have a row per row.

        Raises:
          EmpirError: if it cannot be written.
        """
        if self._folder is None:
            self._memory[start] = arrays
            return
        told = dict(run=self._run, start=int(start), rows=int(rows), how=self._how)
        stamp = json.dumps(dict(told, sha256=_checksum(arrays, arrays)))
        with runs.replacing(self._path(start)) as file:
            np.savez(file, **dict(arrays, **{STAMP: np.array(stamp)}))

    @contextlib.contextmanager
    def _opened(self, start):
        """A chunk's archive; `ResumeError` that names it for whatever is wrong with the file."""
        path = self._path(start)
        try:
            with opened(path) as archive:
                yield archive
        except Exception as error:  # zipfile's, zlib's and NumPy's, of a file that is damaged
            raise ResumeError(f"{path} is damaged ({' '.join(str(error).split())})")

    def _array(self, start, key):
        if self._folder is None:
            return self._memory[start][key]
        with self._opened(start) as archive:
            return archive[key]

    def column(self, key: str, starts) -> np.ndarray:
        """One array over all chunks, concatenated."""
        return np.concatenate([self._array(start, key) for start in starts])

    def optional(self, start: int, key: str) -> Optional[np.ndarray]:
        """An array of a chunk that not every chunk has, or None."""
        if self._folder is None:
            return self._memory[start].get(key)
        with self._opened(start) as archive:
            return archive[key] if key in archive.files else None

    def write_npz(self, path: str, keys, starts) -> str:
        """Write the chunks' arrays as one .npz, byte for byte the same at every writing.

        Returns:
          The file's SHA-256.
        """
        return write_npz(path, keys, lambda key: (self._array(start, key) for start in starts))

    def remove(self):
        """Delete the chunks, the run's description, and the folder if nothing else is in it."""
        if self._folder is not None and os.path.lexists(self._folder):
            discard(self._folder)
        self._memory.clear()


def write_npz(path: str, keys, parts: Callable) -> str:
    """Write an .npz, atomically, and byte for byte the same at every writing.

    Args:
      path: of the file.
      keys: names of its arrays.
      parts: `parts(key)` yields the parts of an array, in their order; it is called twice.

    Returns:
      The file's SHA-256.
    """
    with runs.replacing(path) as file:
        with zipfile.ZipFile(file, "w") as archive:
            for key in keys:
                _write_array(archive, key, parts)
    return runs.file_digest(path)


def _write_array(archive, key, parts):
    shapes = [(part.dtype, part.shape) for part in parts(key)]
    dtype, shape = shapes[0]
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (sum(each[0] for _, each in shapes),) + shape[1:],
    }
    entry = zipfile.ZipInfo(key + ".npy")  # dated 1980, unlike one made from a file
    entry.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts(key):
            file.write(np.ascontiguousarray(part).tobytes())


class JoinedStore(ChunkStore):
    """The chunks of several stores as those of one, for reading.

    Args:
      stores: index of a chunk's first row -> the store that has it.
    """

    def __init__(self, stores: Dict[int, ChunkStore]):
        super().__init__()
        self._stores = stores

    def _array(self, start, key):
        return self._stores[start]._array(start, key)


def _linked(path):
    return ResumeError(f"{path} is a link: remove it, the state of a run lies in its folder")


_OWN = re.compile(r"(chunk-\d{8,}\.npz|run\.json)(\.writing)?$")


def discard(folder: str):
    """Delete a store's files and its folder; what is not the store's stays, and is named.

    The description goes last: while there are chunks, it says whose they are.

    Raises:
      EmpirError: if something cannot be deleted.
    """
    try:
        _discard(folder)
    except OSError as error:
        raise EmpirError(f"cannot remove {folder}: {error.strerror}")


def _discard(folder):
    names = sorted(os.listdir(folder), key=lambda name: (name == runs.DESCRIPTION, name))
    others = [name for name in names if not _OWN.match(name)]
    for name in names:
        if name not in others:
            os.unlink(os.path.join(folder, name))
    if others:
        log.warning("%s stays, as it holds %s", folder, others[0])
    else:
        os.rmdir(folder)


def opened(path: str):
    """An .npz file for reading, if it is a regular file that needs no code to be read.

    Raises:
      Exception: of whatever kind zipfile, zlib and NumPy raise for a file that is none.
    """
    if os.path.lexists(path) and not os.path.isfile(path):
        raise OSError("not a regular file")
    if os.path.isfile(path) and not zipfile.is_zipfile(path):
        raise ValueError("no .npz file")
    return np.load(path, allow_pickle=False)


def _checksum(arrays, names) -> str:
    """SHA-256 of arrays with their names, types and shapes, read one at a time."""
    whole = hashlib.sha256()
    for name in sorted(names):
        array = np.ascontiguousarray(arrays[name])
        whole.update(f"{name} {array.dtype.str} {array.shape}\n".encode("utf8"))
        whole.update(array.data)
    return whole.hexdigest()
