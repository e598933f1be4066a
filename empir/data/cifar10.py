"""CIFAR-10: binary or Python version, in a folder or its official tarball, or by Keras."""

import hashlib
import lzma
import os
import tarfile
import zlib
from dataclasses import dataclass
from typing import Callable

import numpy as np

from empir.data.dataset import WAYS, Dataset, from_bytes, keras_file
from empir.data.files import listing, open_tarball, read_regular, unpickle
from empir.errors import DataError

#: Files of each split, without the binary version's ".bin".
FILES = {"train": [f"data_batch_{i}" for i in (1, 2, 3, 4, 5)], "test": ["test_batch"]}
PER_FILE = 10000
IMAGE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # the binary version's bytes per image: label, then the colour planes

#: sha256 of the official binary files.
SHA256 = {
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
#: md5 of the official Python files. Files that hold the same images and labels pass too.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
KERAS_FOLDER = os.path.join(os.path.expanduser("~"), ".keras", "datasets", "cifar-10-batches-py")


#: Bytes that a file may hold, and a tarball unpacked; of official files, and of others.
MOST_BYTES, MOST_OTHER_BYTES = 4 * PER_FILE * RECORD, 1 << 32
MOST_UNPACKED = 1 << 30


@dataclass(frozen=True)
class _Version:
    """One of the two official versions: its folder, its tarballs' names, how a file is read.

    `parse(data, where)` gives the records of a file, uint8 [n, RECORD], and
    `is_official(name, data, records)` says whether they are CIFAR-10's.
    """

    folder: str
    suffix: str
    tarballs: tuple
    parse: Callable
    is_official: Callable


def load(
    split: str = "test", data_dir=None, sample: bool = False, any_data: bool = False
) -> Dataset:
    """Load a split of CIFAR-10.

    Sources, in this order: `data_dir`: a folder with the files of the binary or the Python version,
    with the official folder of either, or with its tarball, or the path of a tarball; the Keras
    cache (~/.keras/datasets/cifar-10-batches-py, a folder or .tar.gz) and download.

    Args:
      split: "train" (50,000) or "test" (10,000).
      data_dir: folder or tarball; if given, nothing else is tried.
      sample: must be False: no sample of CIFAR-10 is embedded.
      any_data: accept files of either format in `data_dir` that are not CIFAR-10: any number of
        images of 32 x 32, labels 0..9. The dataset's name is "own data" then.

    Returns:
      Images float32 [n, 32, 32, 3], RGB, in [0, 1], not standardised; labels int64 [n].

    Raises:
      DataError: if a file is missing, truncated, not the official one, or a pickle that holds more
        than arrays and containers; for an unknown split, or `sample`.
    """
    if split not in FILES:
        raise DataError(f"split {split!r}: choose from {', '.join(FILES)}")
    if sample:
        raise DataError("no sample of CIFAR-10 is embedded: pass --data_dir=FOLDER with its files")
    if data_dir:
        return _read(split, data_dir, any_data)
    if os.path.isdir(KERAS_FOLDER):
        return _read(split, KERAS_FOLDER)
    try:
        path = keras_file("cifar-10-batches-py.tar.gz", URL)
    except DataError as error:
        raise DataError(
            f"CIFAR-10 could not be downloaded ({error}): pass --data_dir=FOLDER with the files or "
            "the tarball of its binary or Python version"
        )
    return _read(split, path)


def _read(split, path, any_data=False):
    images, labels, files, official = [], [], {}, True
    for name, version, data, where in _contents(split, path, any_data):
        records = version.parse(data, where)
        _check_count(records, where, any_data)
        if not version.is_official(name, data, records):
            official = False
            if not any_data:
                raise DataError(
                    f"{where} is not the official CIFAR-10 file (the sha256 of its images and"
                    f" labels differs): fetch it again, or {WAYS}"
                )
        if any_data:
            files[name + version.suffix] = _sha256(data)
        labels.append(records[:, 0])
        planes = records[:, 1:].reshape((-1,) + IMAGE)
        images.append(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)))
    arrays = np.concatenate(images), np.concatenate(labels)
    return from_bytes("cifar10", split, *arrays, path, files=None if official else files)


def _check_count(records, where, any_data):
    if len(records) != PER_FILE and not any_data:
        raise DataError(
            f"{where} holds {len(records)} images, expected {PER_FILE}: fetch it again, or {WAYS}"
        )


def _contents(split, path, any_data):
    """(name, version, bytes, path for messages) of each of a split's files."""
    if os.path.isdir(path):
        listing(path)  # an error if it may not be read
    elif os.path.exists(path):
        return _from_tarball(split, path, any_data)
    else:
        raise DataError(f"--data_dir={path} is neither a folder nor a tarball")
    for version in VERSIONS:
        for folder in (path, os.path.join(path, version.folder)):
            if any(os.path.exists(os.path.join(folder, n + version.suffix)) for n in FILES[split]):
                return _from_folder(split, folder, version, any_data)
    for version in VERSIONS:
        for tarball in version.tarballs:
            if os.path.exists(os.path.join(path, tarball)):
                return _from_tarball(split, os.path.join(path, tarball), any_data)
    raise DataError(
        f"{path} holds no CIFAR-10: neither {FILES[split][0]}.bin nor {FILES[split][0]}, nor a"
        " folder or tarball of them"
    )


def _from_folder(split, folder, version, any_data):
    for name in FILES[split]:
        where = os.path.join(folder, name + version.suffix)
        data = read_regular(where, MOST_OTHER_BYTES if any_data else MOST_BYTES)
        yield name, version, data, where


def _from_tarball(split, path, any_data):
    found = {}
    wanted = {
        f"{version.folder}/{name}{version.suffix}": (name, version)
        for version in VERSIONS
        for name in FILES[split]
    }
    most = MOST_OTHER_BYTES if any_data else MOST_BYTES
    try:
        with open_tarball(path, MOST_OTHER_BYTES if any_data else MOST_UNPACKED) as archive:
            for entry in archive:
                if entry.isfile() and entry.name in wanted:
                    name, version = wanted[entry.name]
                    where = f"{entry.name} in {path}"
                    if entry.size > most:
                        raise DataError(f"{where} claims {entry.size} bytes")
                    found[name] = (name, version, archive.extractfile(entry).read(), where)
                if len(found) == len(FILES[split]):
                    break
    except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be read as a tarball ({error}): fetch it again")
    missing = [name for name in FILES[split] if name not in found]
    if missing:
        raise DataError(
            f"{path} holds no {', '.join(missing)} of CIFAR-10's binary or Python version: fetch it"
            " again"
        )
    return [found[name] for name in FILES[split]]


def _parse_binary(data, where):
    if not data or len(data) % RECORD:
        raise DataError(
            f"{where} holds {len(data)} bytes, expected {PER_FILE * RECORD}, or with --any_data a"
            f" multiple of {RECORD}: fetch it again"
        )
    return np.frombuffer(data, np.uint8).reshape(-1, RECORD)


def _parse_pickle(data, where):
    """The records of a Python file, in the binary version's layout."""
    content = unpickle(data, where)
    try:
        images, labels = np.asarray(content["data"]), np.asarray(content["labels"])
    except Exception as error:  # whatever is no such dictionary raises something of its own
        raise DataError(
            f"{where} is no batch of CIFAR-10 ({type(error).__name__}:"
            f" {' '.join(str(error).split())}): fetch it again"
        )
    valid = images.dtype == np.uint8 and images.ndim == 2 and images.shape[1] == RECORD - 1
    valid = valid and labels.dtype.kind in "iu" and labels.shape == images.shape[:1]
    if not valid or not len(labels) or labels.min() < 0 or labels.max() > 9:
        found = (images.dtype, images.shape, labels.dtype, labels.shape)
        raise DataError(
            "%s: expected uint8 data (%d, %d) and %d labels 0..9, found %s %s and %s %s: fetch it "
            "again" % ((where, PER_FILE, RECORD - 1, PER_FILE) + found)
        )
    return np.concatenate([labels.astype(np.uint8)[:, np.newaxis], images], axis=1)


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


VERSIONS = (
    _Version(
        "cifar-10-batches-bin",
        ".bin",
        ("cifar-10-binary.tar.gz",),
        _parse_binary,
        lambda name, data, records: _sha256(data) == SHA256[name],
    ),
    _Version(
        "cifar-10-batches-py",
        "",
        ("cifar-10-python.tar.gz", "cifar-10-batches-py.tar.gz"),
        _parse_pickle,
        lambda name, data, records: hashlib.md5(data).hexdigest() == MD5[name]
        or _sha256(records.tobytes()) == SHA256[name],
    ),
)
