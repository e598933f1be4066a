"""Tarballs and pickles of unknown origin: nothing in them is run, or unpacked beyond a limit."""

import bz2
import contextlib
import gzip
import io
import lzma
import pickle
import pickletools
import tarfile
from typing import Callable, Dict

from empir.data.files import open_regular
from empir.errors import DataError

#: How a compressed file starts -> what opens it.
_UNPACKERS: Dict[bytes, Callable] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}


@contextlib.contextmanager
def open_tarball(path: str, limit: int):
    """Open a tarball as a stream, compressed or not, in a `with` statement; gives a `TarFile`.

    Args:
      path: the file.
      limit: number of bytes that may be read of it, unpacked.

    Raises:
      DataError: if it is no regular file; or, as it is read, if it is longer than `limit`.
      OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError: if it is damaged.
    """
    with open_regular(path) as file:
        start = file.read(8)
        file.seek(0)
        openers = [opener for magic, opener in _UNPACKERS.items() if start.startswith(magic)]
        stream = openers[0](file) if openers else file
        limited = _AtMost(stream, limit, path)
        # A stream is only read, in order, and that is what `_AtMost` can do.
        with tarfile.open(fileobj=limited, mode="r|") as archive:  # type: ignore[arg-type]
            yield archive


class _AtMost:
    """Reads of a file up to a limit, beyond which there is an error."""

    def __init__(self, file, limit, path):
        self._file, self._left, self._path = file, limit, path

    def read(self, size):
        """The next bytes, at most `size`; `DataError` beyond the limit."""
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(
                f"{self._path} unpacks to more than a tarball of its kind: fetch it again"
            )
        return data


def unpickle(data: bytes, where: str):
    """What a pickle of arrays, text, numbers and containers holds; of any Python and protocol.

    Args:
      data: the pickle.
      where: what it is, for messages.

    Raises:
      DataError: if it is damaged, or asks for anything else, of which nothing is run.
    """
    try:
        _check_memo(data)
        return _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{where}: {error}")
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise DataError(
            f"{where} cannot be read as a pickle of arrays ({type(error).__name__}:"
            f" {' '.join(str(error).split())}): fetch it again"
        )


def _check_memo(data):
    """Refuse a place in the unpickler's table of objects that would fill the memory."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
            raise DataError(f"a pickle that numbers its objects up to {argument} is none")


def _latin1(text, encoding):
    """Bytes as Python 3 writes them with protocol 2: as text, and this call."""
    if type(text) is not str or encoding != "latin1":
        raise DataError(f"a pickle that calls _codecs.encode with {encoding!r} is not of arrays")
    return text.encode("latin1")


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and built-in containers; anything else is refused, not run."""

    CONTAINERS = ("list", "dict", "tuple", "set", "frozenset", "bytearray", "bytes")
    ALLOWED = {
        "numpy": ("ndarray", "dtype"),
        "numpy.core.multiarray": ("_reconstruct",),
        "builtins": CONTAINERS,
        "__builtin__": CONTAINERS,  # as protocols 0 to 2 call the same module
    }

    def find_class(self, module, name):
        """The global of that name if it is needed for an array or a container."""
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: _latin1(text, encoding)  # its own: pickles can set state
        if name not in self.ALLOWED.get(module, ()):
            raise DataError(
                f"a pickle that asks for {module}.{name} is not of arrays alone, and was not run"
            )
        return super().find_class(module, name)
