"""Files of runs: written complete or not at all, another run's refused.

While a run is under way its folder holds the state of it: run.json, which says what the run
computes, and what is finished (of an evaluation, its chunks: `empir.records.chunks`).
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from typing import BinaryIO, List, Optional, Union

from empir.errors import EmpirError, ResumeError

PARTIAL = "partial"  # state of an unfinished evaluation, in its --out
TRAINING = "training-state"  # state of an unfinished training, in its --model_path
DESCRIPTION = "run.json"  # of a run, in the folder of its state

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class NotRegularError(OSError):
    """A path leads to something other than a regular file.

    Attributes:
      kind: what it leads to, in words, e.g. "a folder".
    """

    def __init__(self, kind: str):
        super().__init__(errno.EINVAL, "not a regular file")
        self.kind = kind


def open_file(path: str) -> BinaryIO:
    """Open a regular file to read its bytes; links are followed.

    Raises:
      NotRegularError: for anything else.
      OSError: if it is missing or may not be read.
    """
    return open(path, "rb", opener=_open)


def _open(path, flags):
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise NotRegularError(_KINDS.get(kind, "something else"))
    return descriptor


def sha256(file: BinaryIO) -> str:
    """The SHA-256, in hex, of an open file from its present position to its end."""
    whole = hashlib.sha256()
    for part in iter(lambda: file.read(2**20), b""):
        whole.update(part)
    return whole.hexdigest()


def write_atomically(path: str, content: Union[str, bytes]):
    """Write a file so that it is either complete or as it was before.

    A symbolic link to a regular file stays, and the file that it leads to is written.

    Raises:
      EmpirError: if it cannot be written, or `path` is a device, a pipe, a folder, or a link to
        nothing.
    """
    with replacing(path) as file:
        if not isinstance(content, bytes):
            content = content.encode("utf8", "surrogateescape")  # as paths that are not UTF-8
        file.write(content)


@contextlib.contextmanager
def replacing(path: str):
    """A binary file that takes the place of `path` once it is written and on the disk.

    It stands beside `path` meanwhile, as `path` with ".writing" appended.

    Raises:
      EmpirError: as `write_atomically`, also for an `OSError` of what the block does.
    """
    target = _target(path)
    temporary = target + ".writing"
    try:
        if os.path.lexists(temporary):
            _require_regular(temporary)
            os.unlink(temporary)  # of a process that was killed
        with open(temporary, "xb") as file:
            yield _Written(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except (OSError, EmpirError) as error:
        with contextlib.suppress(OSError):  # a disk that is full gets its space back
            os.unlink(temporary)
        if isinstance(error, EmpirError):
            raise
        raise EmpirError(f"cannot write {path}: {_reason(error)}")


class _Written:
    """A file under way that fails once: zipfile, when it is closed after that, writes on."""

    def __init__(self, file):
        self._file, self._failed, self._place = file, False, 0

    def _once(self, call, *arguments):
        """Call the file's method, unless one failed before."""
        if not self._failed:
            self._failed = True
            call(*arguments)
            self._place = self._file.tell()
            self._failed = False

    def write(self, data):
        """As a binary file's."""
        self._place += len(data)
        self._once(self._file.write, data)
        return len(data)

    def seek(self, offset, whence=os.SEEK_SET):
        """As a binary file's."""
        self._place = offset if whence == os.SEEK_SET else self._place
        self._once(self._file.seek, offset, whence)
        return self._place

    def tell(self):
        """As a binary file's."""
        return self._place

    def flush(self):
        """As a binary file's."""
        self._once(self._file.flush)

    def read(self, *size):
        """There, as NumPy asks whether it is; the file is for writing."""
        return self._file.read(*size)


def _target(path):
    """The regular file that is written as `path`, if there is one: itself, or a link's end."""
    if os.path.islink(path):
        if not os.path.exists(path):
            raise EmpirError(f"cannot write {path}: it is a link to nothing, remove it")
        target = os.path.realpath(path)
    else:
        target = path
    _require_regular(target, path)
    return target


def _require_regular(target, path=None):
    """Raise `EmpirError` if there is something other than a regular file."""
    if os.path.lexists(target) and not stat.S_ISREG(os.lstat(target).st_mode):
        raise EmpirError("cannot write %s: it is not a regular file" % (path or target))


def _reason(error):
    """What an `OSError` says, in one line and without the file's name."""
    return error.strerror or " ".join(str(error).split())


def make_folder(folder: str):
    """Make a folder and those above it that are missing; `EmpirError` if it cannot be made."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise EmpirError(f"cannot write to {folder}: {_reason(error)}")


@contextlib.contextmanager
def new_folder(folder: str):
    """A folder to fill that takes the place of `folder` once the block has ended without an error.

    It stands beside `folder` meanwhile, as `folder` with ".writing" appended.

    Args:
      folder: does not exist yet, or is empty.

    Raises:
      EmpirError: if there is something at `folder`, or it cannot be written, also for an `OSError`
        of what the block does.
    """
    check_new(folder)
    folder = os.path.normpath(folder)
    unfinished = folder + ".writing"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        os.makedirs(unfinished)
        yield unfinished
        os.rename(unfinished, folder)
    except OSError as error:
        raise EmpirError(f"cannot write {folder}: {_reason(error)}")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


#: What a disk, a quota or `ulimit -f` answers that has no room left.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def temporary_folder():
    """A folder that is there while the block runs; `EmpirError` if there is no room for it."""
    hint = "make room for temporary files, or set TMPDIR to a folder that has some"
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield folder
    except FileNotFoundError as error:
        if error.filename is not None:
            raise
        raise EmpirError(f"{_reason(error)}: {hint}")
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise EmpirError(f"cannot write temporary files: {_reason(error)}: {hint}")


def check_writable(folder: str):
    """Raise `EmpirError` if `folder` is not, or could not be made, a folder to write to."""
    if not folder.strip():
        raise EmpirError(f"--out={folder} is empty: name a folder")
    path = os.path.abspath(folder)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
        raise EmpirError(f"cannot write to {folder}: {path} is not a writable folder")


def check_new(folder: str):
    """Raise `EmpirError` if a folder cannot be made at `folder`, or holds something already."""
    check_writable(folder)
    if os.path.lexists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        raise EmpirError(f"{folder} exists: name a folder that does not, or is empty")


def check_file(path: str):
    """Raise `EmpirError` if a file cannot be written at `path`; its folder may be missing."""
    if not path.strip():
        raise EmpirError(f"--out={path} is empty: name a file")
    check_writable(os.path.dirname(path) or ".")
    if os.path.isdir(path):
        raise EmpirError(f"--out={path} is a folder: name a file")
    _target(path)


def write_json(path: str, record: dict):
    """Write a record as a JSON file, complete or not at all, into a folder made if missing."""
    make_folder(os.path.dirname(path) or ".")
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


def read_regular(path: str) -> bytes:
    """What a regular file holds; `OSError` if there is none, or a pipe, which would never end."""
    with open_file(path) as file:
        return file.read()


def read_json(path: str) -> dict:
    """A JSON object from a file; `ResumeError` if the file holds something else."""
    try:
        content = json.loads(read_regular(path).decode("utf8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = _reason(error) if isinstance(error, OSError) else " ".join(str(error).split())
        raise ResumeError(f"{path} is unreadable ({reason}): remove it")
    if not isinstance(content, dict):
        raise ResumeError(f"{path} is unreadable (no JSON object): remove it")
    return content


def digest(description) -> str:
    """SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode("utf8")).hexdigest()


def file_digest(path: str) -> str:
    """SHA-256 of a regular file; `OSError` if it cannot be read."""
    with open_file(path) as file:
        return sha256(file)


def file_digest_or_none(path: str) -> Optional[str]:
    """As `file_digest`; None if the file is missing, not a regular file, or cannot be read."""
    try:
        return file_digest(path)
    except OSError:
        return None


def claim(folder: str, description: dict, resume: bool, what: str):
    """Make `folder` hold the state of this run, described in its run.json.

    Raises:
      ResumeError: if it holds another run's state, or this one's and `resume` is False.
      EmpirError: if it cannot be written.
    """
    record = os.path.join(folder, DESCRIPTION)
    description = json.loads(json.dumps(description))
    if os.path.lexists(record):
        changed = differences(read_json(record), description)
        if changed:
            raise ResumeError(
                f"{folder} is the state of another {what} ({'; '.join(changed)}): use another "
                "folder, or remove it to start over"
            )
        if not resume:
            raise ResumeError(
                f"{folder} holds an unfinished {what}: --resume continues it, removing it starts "
                "over"
            )
        return
    if not resume and os.path.isdir(folder) and _kept(folder):
        raise ResumeError(
            f"{folder} holds an unfinished {what} without its {DESCRIPTION}: --resume takes what "
            "is of this one, removing it starts over"
        )
    make_folder(folder)
    write_atomically(record, json.dumps(description, indent=1, sort_keys=True) + "\n")


def _kept(folder):
    """Files in a folder that are complete."""
    return [n for n in os.listdir(folder) if n[0] != "." and not n.endswith(".writing")]
