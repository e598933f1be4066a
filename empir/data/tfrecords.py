"""ImageNet's TFRecord files: their names, and their records by index.

Two namings are known (docs/original.md, Data). The original's: Val/Val-00000-of-00128 with labels
0..999 and Train/Train-00000-of-01024 with labels 1..1000. Its converter's (imagenet_to_gcs.py of
tensorflow/tpu): validation/validation-00000-of-00128 and train/train-00000-of-01024, labels 1..1000
in both. The files may lie in the folder itself, too.

A TFRecord file is a sequence of records: length (8 bytes, little-endian), its checksum (4), the
data, its checksum (4). Positions and checksums are read once, and lengths compared with theirs; the
data are read, and compared with their checksum, when they are asked for.
"""

import hashlib
import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Dict, List

import google_crc32c
import numpy as np

from empir.data.files import listing, open_regular
from empir.errors import DataError

#: Split -> names of the original and of its converter.
NAMES = {"train": ("Train", "train"), "test": ("Val", "validation")}
#: Name -> what is subtracted from a stored label.
LABEL_OFFSETS = {"Train": 1, "train": 1, "Val": 0, "validation": 1}

HEADER, FOOTER = 12, 4
LONGEST = 1 << 28  # bytes of a record; one that claims more is no image


_MASK = 0xA282EAD8


def masked_crc(data: bytes) -> int:
    """The CRC-32C of bytes as TFRecord files store it: rotated by 15 bits, plus a constant."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


@dataclass(frozen=True)
class Shards:
    """The files of a split.

    Attributes:
      name: "Train", "train", "Val" or "validation".
      paths: files that are there, in order.
      missing: base names of files that are not there, though the others' names promise them.
    """

    name: str
    paths: List[str]
    missing: List[str]


def file_name(name: str, shard: int, shards: int) -> str:
    """Base name of a file, e.g. Val-00000-of-00128."""
    return f"{name}-{shard:05}-of-{shards:05}"


def find_shards(folder: str, split: str) -> Shards:
    """The files of a split in a folder, of either naming, below it or in it.

    Args:
      folder: what the original's --imagenet_path is.
      split: "train" or "test".

    Raises:
      DataError: if there are none, or those of two namings or of two numbers of shards.
    """
    if not os.path.isdir(folder):
        raise DataError(f"--imagenet_path={folder} is not a folder")
    found = {}
    for name in NAMES[split]:
        for place in (os.path.join(folder, name), folder):
            for total, paths in _shards_in(place, name).items():
                found[name, place, total] = paths
    if not found:
        names = [f"{name}/{file_name(name, 0, 128)}" for name in NAMES[split]]
        raise DataError(
            f"{folder} holds no TFRecords of ImageNet's {split} split: neither"
            f" {' nor '.join(names)}"
        )
    if len(found) > 1:
        texts = [os.path.join(place, f"{n}-*-of-{total:05}") for n, place, total in found]
        raise DataError(f"{folder} holds several sets of files: {', '.join(texts)}")
    [((name, _, total), paths)] = found.items()
    wanted = [file_name(name, shard, total) for shard in range(total)]
    return Shards(
        name, [paths[n] for n in wanted if n in paths], [n for n in wanted if n not in paths]
    )


def _shards_in(folder, name) -> Dict[int, Dict[str, str]]:
    """Number of shards -> base name -> path, of the files of that name in a folder."""
    found: Dict[int, Dict[str, str]] = {}
    if os.path.isdir(folder):
        for base in listing(folder):
            match = re.fullmatch(r"%s-\d{5}-of-(\d{5})" % name, base)
            if match:
                found.setdefault(int(match.group(1)), {})[base] = os.path.join(folder, base)
    return found


class Records:
    """The records of TFRecord files, by index over all files.

    Args:
      paths: files in order.

    Attributes:
      digest: sha256 of the files' base names and of each record's length and stored checksum. It
        stands for the data too, of which nothing is read for it: what `read` returns has the
        checksum that went into the digest, or is an error. (A CRC-32C finds damage; it is no
        protection from data that were made to have the CRC of others.)

    Raises:
      DataError: for a file that cannot be read, is truncated or is no TFRecord file; for a record
        whose length has not the checksum that is stored with it.
    """

    def __init__(self, paths):
        with ThreadPoolExecutor(8) as pool:  # waiting for the disk, mostly
            tables = list(pool.map(_positions, paths))
        self._paths = list(paths)
        # Arrays, as the training split has 1.3 million records.
        self._table = np.concatenate([np.zeros((0, 3), np.int64)] + tables)
        self._first = np.cumsum([0] + [len(table) for table in tables])
        sha = hashlib.sha256()
        for path, table in zip(paths, tables):
            sha.update(os.path.basename(path).encode("utf8"))
            sha.update(np.ascontiguousarray(table[:, 1:]).data)
        self.digest = sha.hexdigest()

    def __len__(self):
        return len(self._table)

    def _place(self, index):
        """Path and number within the file of a record."""
        file = int(np.searchsorted(self._first, index, side="right")) - 1
        return self._paths[file], index - int(self._first[file])

    def shuffled(self, random, window: int) -> np.ndarray:
        """A permutation of the records that reads files in groups of at least `window` records.

        The files are shuffled, then the records within each group of consecutive files, so that
        reading in this order touches few files at a time.
        """
        order, group, size = [np.zeros(0, np.int64)], [], 0
        files = random.permutation(len(self._paths))
        for file in files:
            group.append(np.arange(self._first[file], self._first[file + 1]))
            size += len(group[-1])
            if size >= window or file == files[-1]:
                order.append(random.permutation(np.concatenate(group)))
                group, size = [], 0
        return np.concatenate(order)

    def where(self, index: int) -> str:
        """A record's place, for messages: its number in its file, from 0."""
        path, number = self._place(index)
        return f"record {number} of {path}"

    def read(self, index: int) -> bytes:
        """A record's data; `DataError` if they are cut or have not the record's checksum."""
        start, length, checksum = (int(value) for value in self._table[index])
        with open_regular(self._place(index)[0]) as file:
            file.seek(start)
            data = file.read(length)
        if len(data) != length:
            raise DataError(f"{self.where(index)} is truncated: fetch or convert it again")
        if masked_crc(data) != checksum:
            raise DataError(
                f"{self.where(index)} is damaged (its data have not the checksum stored with them):"
                " fetch or convert the file again"
            )
        return data


def _positions(path) -> np.ndarray:
    """Start, length and checksum of the data of each record of a file: int64 [n, 3]."""
    positions: List[tuple] = []
    with open_regular(path) as file:
        size, position = os.fstat(file.fileno()).st_size, 0
        while position < size:
            file.seek(position)
            length = _length(path, file.read(HEADER), position, len(positions))
            start = position + HEADER
            if start + length + FOOTER > size:
                raise _truncated(path, position)
            file.seek(start + length)
            positions.append((start, length, struct.unpack("<I", file.read(FOOTER))[0]))
            position = start + length + FOOTER
    return np.array(positions, np.int64).reshape(-1, 3)


def _length(path, header, position, number) -> int:
    """The length of a record's data by its header, which must have its checksum."""
    if len(header) != HEADER:
        raise _truncated(path, position)
    length, checksum = struct.unpack("<QI", header)
    if masked_crc(header[:8]) != checksum:
        if number == 0:
            raise _truncated(path, position)
        raise DataError(
            f"record {number} of {path} is damaged (its length has not the checksum stored with"
            " it): fetch or convert the file again"
        )
    if length > LONGEST:
        raise DataError(
            f"record {number} of {path} claims {length} bytes: an image's record has at most"
            f" {LONGEST}"
        )
    return length


def _truncated(path, position):
    return DataError(
        f"{path} is truncated or no TFRecord file (at byte {position}): fetch or convert it again"
    )
