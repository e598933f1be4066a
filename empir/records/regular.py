"""Regular files, which end: a pipe or a device is refused before anything is read from it."""

import errno
import hashlib
import os
import stat
from typing import BinaryIO

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


def opened(path: str) -> BinaryIO:
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
