"""MNIST: a folder's idx files or mnist.npz, the Keras cache and download, the embedded sample."""

import gzip
import hashlib
import logging
import os
import struct
import zlib

import numpy as np

from empir.data.arrays import open_arrays
from empir.data.dataset import WAYS, Dataset, from_bytes, keras_file
from empir.data.files import check_memory, listing, open_regular
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
        raise DataError("split %r: choose from %s" % (split, ", ".join(SIZES)))
    if sample and split != "test":
        raise DataError("the embedded sample is of the test split; there is none of %r" % split)
    if sample:
        images, labels = (_read_idx(SAMPLES, name, 1000, True) for name in _names(split))
        return _dataset(split, images, labels, source="sample", is_sample=True)
    if data_dir:
        return _from_folder(split, data_dir, any_data)
    try:
        path = keras_file("mnist.npz", KERAS_URL)
    except Exception as error:  # Keras raises whatever the download met
        if split != "test":
            raise DataError(
                "MNIST could not be downloaded (%s): put its four files or mnist.npz into a folder "
                "and pass --data_dir=FOLDER" % str(error).split("\n")[0]
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
    return ["%s-%s" % (FILES[split], kind) for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]


def _shape(name, count):
    return (count, 28, 28) if "images" in name else (count,)


def _from_folder(split, folder, any_data):
    if not os.path.isdir(folder):
        raise DataError("--data_dir=%s is not a folder" % folder)
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
                "%s is not the official MNIST file (sha256 differs): fetch it again, or %s"
                % (_find(folder, name), WAYS)
            )
    return _dataset(split, *pair, source=folder, files=None if official else digests)


def _header(shape):
    """The start of an idx file of bytes."""
    return struct.pack(">BBBB%dI" % len(shape), 0, 0, 8, len(shape), *shape)


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
        raise DataError("%s holds neither %s nor %s.gz (nor mnist.npz)" % (folder, name, name))
    try:
        with open_regular(path) as file:
            if path.endswith(".gz"):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _parse_idx(path, unpacked, _shape(name, count), any_data)
            return _parse_idx(path, file, _shape(name, count), any_data)
    except (EOFError, zlib.error) as error:
        raise DataError("%s cannot be read (%s): fetch it again" % (path, error))


def _parse_idx(path, file, expected, any_data):
    magic = file.read(4)
    wanted = _header(expected)[:4]
    if len(magic) < 4:
        raise DataError("%s holds %d bytes, no idx file: fetch it again" % (path, len(magic)))
    if magic != wanted:
        raise DataError(
            "%s starts with the bytes %s, expected %s of an idx file of bytes in %d dimensions: "
            "fetch it again" % (path, magic.hex(), wanted.hex(), len(expected))
        )
    lengths = file.read(4 * len(expected))
    if len(lengths) < 4 * len(expected):
        raise DataError("%s ends inside its header: fetch it again" % path)
    shape = struct.unpack(">%dI" % len(expected), lengths)
    if shape[1:] != expected[1:] or (shape[0] != expected[0] and not any_data):
        hint = "" if shape[1:] != expected[1:] else ", or " + WAYS
        raise DataError(
            "%s holds %s, expected %s: fetch it again%s"
            % (path, "x".join(map(str, shape)), "x".join(map(str, expected)), hint)
        )
    size = int(np.prod(shape, dtype=np.int64))
    check_memory(path, 5 * size)  # as bytes, then as float32
    data = file.read(size + 1)
    if len(data) != size:
        start = len(magic) + len(lengths)
        held = "more" if len(data) > size else start + len(data)
        raise DataError(
            "%s holds %s bytes uncompressed, expected %d: fetch it again"
            % (path, held, start + size)
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _from_npz(split, path, any_data):
    pair, official = [], True
    with open_arrays(path) as archive:
        digests = {os.path.basename(path): archive.sha256()}
        for key, name in zip("xy", _names(split)):
            key = "%s_%s" % (key, split)
            dtype, shape = archive.header(key)
            expected = _shape(name, SIZES[split])
            fits = dtype == np.uint8 and shape[1:] == expected[1:] and len(shape) == len(expected)
            if not fits or (shape != expected and not any_data):
                raise DataError(
                    "%s: %s is %s %s, expected uint8 %s; fetch it again, or %s"
                    % (path, key, dtype, shape, expected, WAYS)
                )
            pair.append(archive.read(key))
            if _digest(pair[-1]) != SHA256[name]:
                official = False
                if not any_data:
                    raise DataError(
                        "%s: %s is not MNIST's (sha256 differs): fetch it again, or %s"
                        % (path, key, WAYS)
                    )
    return _dataset(split, *pair, source=path, files=None if official else digests)
