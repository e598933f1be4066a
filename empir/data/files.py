"""Files of unknown origin: regular, no longer than expected, and nothing in them is run.

`open_arrays` reads .npz files, `open_tarball` tarballs and `unpickle` pickles of arrays.
"""

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import operator
import os
import pickle
import pickletools
import tarfile
import zipfile
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np

from empir.errors import DataError
from empir.records import runs

LONGEST_HEADER = 10000  # bytes; NumPy writes less than 200

#: How a compressed file starts -> what opens it.
_UNPACKERS: Dict[bytes, Callable] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}


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
        with runs.open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if limit is not None and size > limit:
                raise DataError(
                    f"{path} holds {size} bytes, more than the {limit} that it may hold"
                )
            yield file
    except runs.NotRegularError as error:
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


@dataclass(frozen=True)
class Header:
    """What an array claims to be before it is read: its dtype and shape."""

    dtype: np.dtype
    shape: Tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of numbers in the array."""
        return functools.reduce(operator.mul, self.shape, 1)  # Python's integers do not wrap


@contextlib.contextmanager
def open_arrays(path: str):
    """Open an .npz file in a `with` statement; gives its `Arrays`.

    Raises:
      DataError: if it is no regular file, or no zip file; whatever damage is met inside the `with`
        statement is a `DataError` that names the file, too.
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield Arrays(path, file, archive)
        except DataError:
            raise
        except Exception as error:  # zipfile, zlib and NumPy raise whatever damaged bytes mean
            text = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{path} cannot be read as an .npz file ({text})")


class Arrays:
    """The arrays of an .npz file; see `open_arrays`."""

    def __init__(self, path, file, archive):
        self._path, self._file, self._archive = path, file, archive

    @property
    def names(self) -> List[str]:
        """The arrays' names."""
        return [name[:-4] for name in self._archive.namelist() if name.endswith(".npy")]

    def sha256(self) -> str:
        """The sha256 of the whole file, in hex."""
        position = self._file.tell()
        self._file.seek(0)
        try:
            return runs.sha256(self._file)
        finally:
            self._file.seek(position)

    def header(self, name: str) -> Header:
        """What an array claims; `DataError` if it is missing, or holds anything but numbers."""
        with self._member(name) as (_, header, _):
            return header

    def read(self, name: str) -> np.ndarray:
        """An array, in the machine's order of bytes.

        Raises:
          DataError: as of `header`; if it claims more bytes than this machine has memory, or than
            are there, or there are more than it claims.
        """
        with self._member(name) as (member, header, fortran):
            count = header.size
            where = f"{self._path}: {name}"
            check_memory(where, count * header.dtype.itemsize)
            array = np.empty(count, header.dtype)
            left = memoryview(array.view(np.uint8))
            while len(left):
                got = member.readinto(left[: 1 << 24])
                if not got:
                    raise DataError(f"{where} holds fewer numbers than it claims")
                left = left[got:]
            if member.read(1):
                raise DataError(f"{where} holds more numbers than it claims")
        array = array.reshape(header.shape, order="F" if fortran else "C")
        return array.astype(header.dtype.newbyteorder("="), order="C", copy=False)

    @contextlib.contextmanager
    def _member(self, name):
        """An array's data as an open file, its header, and whether it is in Fortran's order."""
        if name not in self.names:
            raise DataError(
                f"{self._path} has no array {name}; it has {', '.join(self.names) or 'none'}"
            )
        info = self._archive.getinfo(name + ".npy")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{self._path}: {name} is compressed as NumPy compresses none")
        with self._archive.open(info) as member:
            dtype, shape, fortran = self._parse(name, member)
            if dtype.kind not in "biufc" or any(length < 0 for length in shape):
                raise DataError(f"{self._path}: {name} is {dtype} {shape}, no array of numbers")
            yield member, Header(dtype, shape), fortran

    def _parse(self, name, member):
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError("%s is of NumPy's format %d.%d" % ((name,) + version))
        size = member.read(4 if version[0] > 1 else 2)
        length = int.from_bytes(size, "little")
        if length > LONGEST_HEADER:
            raise DataError(f"{self._path}: {name} has a header of {length} bytes")
        text = size[:2] + member.read(length)  # version 1, whose length takes two bytes
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(text))
        return dtype, shape, fortran


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
