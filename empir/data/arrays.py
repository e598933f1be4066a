"""The arrays of an .npz file of unknown origin: of numbers only, and no more than they claim."""

import contextlib
import functools
import io
import operator
import zipfile
from typing import List, NamedTuple, Tuple

import numpy as np

from empir.data.files import check_memory, open_regular
from empir.errors import DataError
from empir.records import regular

LONGEST_HEADER = 10000  # bytes; NumPy writes less than 200


class Header(NamedTuple):
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
            return regular.sha256(self._file)
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
