"""CIFAR-10: binary or Python version, in a folder or its official tarball, or by Keras."""

import hashlib
import io
import os
import pickle
import tarfile
import zlib
from typing import Callable, NamedTuple

import numpy as np

from empir.data import Dataset, from_bytes, keras_file
from empir.errors import DataError

#: Files of each split, without the binary version's ".bin".
FILES = {"train": ["data_batch_%d" % i for i in (1, 2, 3, 4, 5)], "test": ["test_batch"]}
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


class _Version(NamedTuple):
    """One of the two official versions: its folder, its tarballs' names, how a file is read."""

    folder: str
    suffix: str
    tarballs: tuple
    parse: Callable


def load(split: str = "test", data_dir=None, sample: bool = False) -> Dataset:
    """Load a split of CIFAR-10.

    Sources, in this order: `data_dir`: a folder with the files of the binary or the Python version,
    with the official folder of either, or with its tarball, or the path of a tarball; the Keras
    cache (~/.keras/datasets/cifar-10-batches-py, a folder or .tar.gz) and download.

    Args:
      split: "train" (50,000) or "test" (10,000).
      data_dir: folder or tarball; if given, nothing else is tried.
      sample: must be False: no sample of CIFAR-10 is embedded.

    Returns:
      Images float32 [n, 32, 32, 3], RGB, in [0, 1], not standardised; labels int64 [n].

    Raises:
      DataError: if a file is missing, truncated, not the official one, or a pickle that holds more
        than arrays and containers; for an unknown split, or `sample`.
    """
    if split not in FILES:
        raise DataError("split %r: choose from %s" % (split, ", ".join(FILES)))
    if sample:
        raise DataError("no sample of CIFAR-10 is embedded: pass --data_dir=FOLDER with its files")
    if data_dir:
        return _read(split, data_dir)
    if os.path.isdir(KERAS_FOLDER):
        return _read(split, KERAS_FOLDER)
    try:
        path = keras_file("cifar-10-batches-py.tar.gz", URL)
    except Exception as error:  # Keras raises whatever the download met
        raise DataError(
            "CIFAR-10 could not be downloaded (%s): pass --data_dir=FOLDER with the files or the "
            "tarball of its binary or Python version" % str(error).split("\n")[0]
        )
    return _read(split, path)


def _read(split, path):
    images, labels = [], []
    for name, version, data, where in _contents(split, path):
        records = version.parse(name, data, where)
        labels.append(records[:, 0])
        planes = records[:, 1:].reshape((-1,) + IMAGE)
        images.append(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)))
    return from_bytes("cifar10", split, np.concatenate(images), np.concatenate(labels), path)


def _contents(split, path):
    """(name, version, bytes, path for messages) of each of a split's files."""
    if os.path.isfile(path):
        return _from_tarball(split, path)
    if not os.path.isdir(path):
        raise DataError("--data_dir=%s is neither a folder nor a tarball" % path)
    for version in VERSIONS:
        for folder in (path, os.path.join(path, version.folder)):
            if any(os.path.exists(os.path.join(folder, n + version.suffix)) for n in FILES[split]):
                return _from_folder(split, folder, version)
    for version in VERSIONS:
        for tarball in version.tarballs:
            if os.path.exists(os.path.join(path, tarball)):
                return _from_tarball(split, os.path.join(path, tarball))
    raise DataError(
        "%s holds no CIFAR-10: neither %s.bin nor %s, nor a folder or tarball of them"
        % (path, FILES[split][0], FILES[split][0])
    )


def _from_folder(split, folder, version):
    for name in FILES[split]:
        where = os.path.join(folder, name + version.suffix)
        try:
            with open(where, "rb") as file:
                data = file.read()
        except OSError as error:
            raise DataError("%s cannot be read (%s): fetch it again" % (where, error.strerror))
        yield name, version, data, where


def _from_tarball(split, path):
    found = {}
    wanted = {
        "%s/%s%s" % (version.folder, name, version.suffix): (name, version)
        for version in VERSIONS
        for name in FILES[split]
    }
    try:
        with tarfile.open(path, "r|*") as archive:  # a stream: nothing is unpacked to the disk
            for entry in archive:
                if entry.isfile() and entry.name in wanted:
                    name, version = wanted[entry.name]
                    data = archive.extractfile(entry).read()
                    found[name] = (name, version, data, "%s in %s" % (entry.name, path))
                if len(found) == len(FILES[split]):
                    break
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError("%s cannot be read as a tarball (%s): fetch it again" % (path, error))
    missing = [name for name in FILES[split] if name not in found]
    if missing:
        raise DataError(
            "%s holds no %s of CIFAR-10's binary or Python version: fetch it again"
            % (path, ", ".join(missing))
        )
    return [found[name] for name in FILES[split]]


def _parse_binary(name, data, where):
    if len(data) != PER_FILE * RECORD:
        raise DataError(
            "%s holds %d bytes, expected %d: fetch it again" % (where, len(data), PER_FILE * RECORD)
        )
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise DataError(
            "%s is not the official CIFAR-10 file (sha256 differs): fetch it again" % where
        )
    return np.frombuffer(data, np.uint8).reshape(PER_FILE, RECORD)


def _parse_pickle(name, data, where):
    """The records of a Python file, in the binary version's layout."""
    try:
        content = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
        images, labels = np.asarray(content["data"]), np.asarray(content["labels"])
    except DataError as error:
        raise DataError("%s: %s" % (where, error))
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise DataError(
            "%s cannot be read as a batch of CIFAR-10 (%s: %s): fetch it again"
            % (where, type(error).__name__, str(error).split("\n")[0])
        )
    valid = images.dtype == np.uint8 and images.shape == (PER_FILE, RECORD - 1)
    valid = valid and labels.dtype.kind in "iu" and labels.shape == (PER_FILE,)
    if not valid or labels.min() < 0 or labels.max() > 9:
        found = (images.dtype, images.shape, labels.dtype, labels.shape)
        raise DataError(
            "%s: expected uint8 data (%d, %d) and %d labels 0..9, found %s %s and %s %s: fetch it "
            "again" % ((where, PER_FILE, RECORD - 1, PER_FILE) + found)
        )
    records = np.concatenate([labels.astype(np.uint8)[:, np.newaxis], images], axis=1)
    official = hashlib.md5(data).hexdigest() == MD5[name]
    if not official and hashlib.sha256(records.tobytes()).hexdigest() != SHA256[name]:
        raise DataError(
            "%s is not the official CIFAR-10 file (neither its md5 nor its images and labels "
            "match): fetch it again" % where
        )
    return records


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and built-in containers; anything else is refused, not run."""

    ALLOWED = {
        "numpy": ("ndarray", "dtype"),
        "numpy.core.multiarray": ("_reconstruct",),
        "builtins": ("list", "dict", "tuple", "set", "frozenset", "bytearray"),
    }

    def find_class(self, module, name):
        """The global of that name if it is needed for an array or a container."""
        if name not in self.ALLOWED.get(module, ()):
            raise DataError(
                "a pickle that asks for %s.%s is not CIFAR-10, and was not run" % (module, name)
            )
        return super().find_class(module, name)


VERSIONS = (
    _Version("cifar-10-batches-bin", ".bin", ("cifar-10-binary.tar.gz",), _parse_binary),
    _Version(
        "cifar-10-batches-py",
        "",
        ("cifar-10-python.tar.gz", "cifar-10-batches-py.tar.gz"),
        _parse_pickle,
    ),
)
