"""MNIST: a folder's idx files or mnist.npz, the Keras cache and download, the embedded sample."""

import gzip
import hashlib
import logging
import os
import struct
import zlib

import numpy as np

from empir.data.dataset import WAYS, Dataset, from_bytes, keras_file
from empir.data.files import check_memory, listing, open_arrays, open_regular
from empir.errors import DataError

log = logging.getLogger(__name__)

SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "samples")
FILES = {"train": "train", "test": "t10k"}
SIZES = {"train": 60000, "test": 10000}

#: sha256 of the official files, uncompressed.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
KERAS_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"


def load(
    split: str = "test", data_dir=None, sample: bool = False, any_data: bool = False
) -> Dataset:
    """Load a split of MNIST.

    Sources, in this order: `data_dir` (idx files, gzipped or not, or mnist.npz); the Keras cache
    (~/.keras/datasets/mnist.npz) and download; for the test split, the embedded sample, which is
    the first 1,000 test images and is said loudly to be one.

    Args:
      split: "train" (60,000) or "test" (10,000).
      data_dir: folder; if given, nothing else is tried.
      sample: True = the embedded sample and nothing else.
      any_data: accept files of MNIST's format in `data_dir` that are not MNIST: any number of
        images of 28 x 28, labels 0..9. The dataset's name is "own data" then.

    Returns:
      Images float32 [n, 28, 28, 1] in [0, 1], labels int64 [n].

    Raises:
      DataError: if a file is missing, truncated, of the wrong size, or not the official one; for
        an unknown split, or a sample of the train split.
    """
    if split not in SIZES:
        raise DataError(f"split {split!r}: choose from {', '.join(SIZES)}")
    if sample and split != "test":
        raise DataError(f"the embedded sample is of the test split; there is none of {split!r}")
    if sample:
        images, labels = (_read_idx(SAMPLES, name, 1000, True) for name in _names(split))
        return _dataset(split, images, labels, source="sample", is_sample=True)
    if data_dir:
        return _from_folder(split, data_dir, any_data)
    try:
        path = keras_file("mnist.npz", KERAS_URL)
    except DataError as error:
        if split != "test":
            raise DataError(
                f"MNIST could not be downloaded ({error}): put its four files or mnist.npz into a "
                "folder and pass --data_dir=FOLDER"
            )
        log.warning(
            "MNIST could not be downloaded: USING THE EMBEDDED SAMPLE, the first 1,000 of the "
            "10,000 test images. For all of them pass --data_dir=FOLDER with the MNIST files."
        )
        return load(split, sample=True)
    return _from_npz(split, path, False)


def _dataset(split, images, labels, source, is_sample=False, files=None):
    images = images[..., np.newaxis]
    return from_bytes("mnist", split, images, labels, source, is_sample, files)


def _names(split):
    """Names of a split's idx files: images, labels."""
    return [f"{FILES[split]}-{kind}" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]


def _shape(name, count):
    return (count, 28, 28) if "images" in name else (count,)


def _from_folder(split, folder, any_data):
    if not os.path.isdir(folder):
        raise DataError(f"--data_dir={folder} is not a folder")
    listing(folder)  # an error if it may not be read
    npz = os.path.join(folder, "mnist.npz")
    if os.path.exists(npz) and not any(_find(folder, name) for name in _names(split)):
        return _from_npz(split, npz, any_data)
    pair, digests = [], {}
    for name in _names(split):
        array = _read_idx(folder, name, SIZES[split], any_data)
        pair.append(array)
        digests[name] = _digest(array)
    official = all(digests[name] == SHA256[name] for name in digests)
    for name in digests:
        if not any_data and digests[name] != SHA256[name]:
            raise DataError(
                f"{_find(folder, name)} is not the official MNIST file (sha256 differs): fetch it"
                f" again, or {WAYS}"
            )
    return _dataset(split, *pair, source=folder, files=None if official else digests)


def _header(shape):
    """The start of an idx file of bytes."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


def _digest(array):
    """sha256 of the idx file of an array."""
    sha = hashlib.sha256(_header(array.shape))
    sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def _find(folder, name):
    paths = [os.path.join(folder, name + suffix) for suffix in ("", ".gz")]
    return next((path for path in paths if os.path.exists(path)), None)


def _read_idx(folder, name, count, any_data):
    """The array of an idx file, gzipped or not, of `count` examples or, if `any_data`, any number.

    No more is read than the array's bytes and one: a small file can unpack to any size.
    """
    path = _find(folder, name)
    if path is None:
        raise DataError(f"{folder} holds neither {name} nor {name}.gz (nor mnist.npz)")
    try:
        with open_regular(path) as file:
            if path.endswith(".gz"):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _parse_idx(path, unpacked, _shape(name, count), any_data)
            return _parse_idx(path, file, _shape(name, count), any_data)
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): fetch it again")


def _parse_idx(path, file, expected, any_data):
    magic = file.read(4)
    wanted = _header(expected)[:4]
    if len(magic) < 4:
        raise DataError(f"{path} holds {len(magic)} bytes, no idx file: fetch it again")
    if magic != wanted:
        raise DataError(
            f"{path} starts with the bytes {magic.hex()}, expected {wanted.hex()} of an idx file of"
            f" bytes in {len(expected)} dimensions: fetch it again"
        )
    lengths = file.read(4 * len(expected))
    if len(lengths) < 4 * len(expected):
        raise DataError(f"{path} ends inside its header: fetch it again")
    shape = struct.unpack(f">{len(expected)}I", lengths)
    if shape[1:] != expected[1:] or (shape[0] != expected[0] and not any_data):
        hint = "" if shape[1:] != expected[1:] else ", or " + WAYS
        raise DataError(
            f"{path} holds {'x'.join(map(str, shape))}, expected {'x'.join(map(str, expected))}:"
            f" fetch it again{hint}"
        )
    size = int(np.prod(shape, dtype=np.int64))
    check_memory(path, 5 * size)  # as bytes, then as float32
    data = file.read(size + 1)
    if len(data) != size:
        start = len(magic) + len(lengths)
        held = "more" if len(data) > size else start + len(data)
        raise DataError(
            f"{path} holds {held} bytes uncompressed, expected {start + size}: fetch it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _from_npz(split, path, any_data):
    pair, official = [], True
    with open_arrays(path) as archive:
        digests = {os.path.basename(path): archive.sha256()}
        for key, name in zip("xy", _names(split)):
            key = f"{key}_{split}"
            dtype, shape = archive.header(key).dtype, archive.header(key).shape
            expected = _shape(name, SIZES[split])
            fits = dtype == np.uint8 and shape[1:] == expected[1:] and len(shape) == len(expected)
            if not fits or (shape != expected and not any_data):
                raise DataError(
                    f"{path}: {key} is {dtype} {shape}, expected uint8 {expected}; fetch it again,"
                    f" or {WAYS}"
                )
            pair.append(archive.read(key))
            if _digest(pair[-1]) != SHA256[name]:
                official = False
                if not any_data:
                    raise DataError(
                        f"{path}: {key} is not MNIST's (sha256 differs): fetch it again, or {WAYS}"
                    )
    return _dataset(split, *pair, source=path, files=None if official else digests)
