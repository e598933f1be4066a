"""Opening files of unknown origin: regular files only, and no more bytes than are expected."""

import contextlib
import hashlib
import os
import stat
from typing import List, Optional

from empir.errors import DataError

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


@contextlib.contextmanager
def open_regular(path: str, limit: Optional[int] = None):
    """Open a regular file to read its bytes, in a `with` statement; links are followed.

    A pipe or a device is refused before anything is read, so that none is waited for.

    Args:
      path: the file.
      limit: number of bytes that it may hold; None = any.

    Raises:
      DataError: if it is missing, no regular file, longer than `limit`, or cannot be opened, or if
        the system fails to read it inside the `with` statement.
    """
    try:
        # A pipe that nobody writes to would be waited for without O_NONBLOCK.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            _check(path, status, limit)
            yield file
    except IsADirectoryError:
        raise DataError("%s is a folder, not a file" % path)
    except OSError as error:
        raise DataError("%s cannot be read (%s)" % (path, error.strerror or error))


def _check(path, status, limit):
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in KINDS if is_kind(status.st_mode)), "something else")
        raise DataError("%s is %s, not a file" % (path, kind))
    if limit is not None and status.st_size > limit:
        raise DataError(
            "%s holds %d bytes, more than the %d that it may hold" % (path, status.st_size, limit)
        )


def read_regular(path: str, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; `DataError` as `open_regular`."""
    with open_regular(path, limit) as file:
        data = file.read(limit + 1)
    if len(data) > limit:  # it grew, or its size is not known beforehand
        raise DataError("%s holds more than the %d bytes that it may hold" % (path, limit))
    return data


def listing(folder: str) -> List[str]:
    """The names in a folder, sorted; `DataError` if it may not be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise DataError("%s cannot be read (%s)" % (folder, error.strerror))


def sha256(data) -> str:
    """The sha256 of bytes, or of an open file from its present position to its end, in hex."""
    sha = hashlib.sha256()
    if isinstance(data, (bytes, memoryview)):
        sha.update(data)
    else:
        for block in iter(lambda: data.read(1 << 20), b""):
            sha.update(block)
    return sha.hexdigest()


def check_memory(what: str, size: int):
    """Raise `DataError` if what takes `size` bytes cannot fit into this machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise DataError(
            "%s claims %.3g GB; this machine has %.3g GB of memory"
            % (what, size / 1e9, memory / 1e9)
        )
