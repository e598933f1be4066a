"""Opening files of unknown origin: regular files only, and no more bytes than are expected."""

import contextlib
import os
from typing import List, Optional

from empir.errors import DataError
from empir.records import regular


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
        with regular.opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if limit is not None and size > limit:
                raise DataError(
                    f"{path} holds {size} bytes, more than the {limit} that it may hold"
                )
            yield file
    except regular.NotRegularError as error:
        raise DataError(f"{path} is {error.kind}, not a file")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})")


def read_regular(path: str, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; `DataError` as `open_regular`."""
    with open_regular(path, limit) as file:
        data = file.read(limit + 1)
    if len(data) > limit:  # it grew, or its size is not known beforehand
        raise DataError(f"{path} holds more than the {limit} bytes that it may hold")
    return data


def listing(folder: str) -> List[str]:
    """The names in a folder, sorted; `DataError` if it may not be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})")


def check_memory(what: str, size: int):
    """Raise `DataError` if what takes `size` bytes cannot fit into this machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise DataError(
            f"{what} claims {size / 1e9:.3g} GB; this machine has {memory / 1e9:.3g} GB of memory"
        )
