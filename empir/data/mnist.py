"""MNIST: a folder's idx files or mnist.npz, the Keras cache and download, the embedded sample."""

import gzip
import hashlib
import logging
import os
import struct
import zipfile
import zlib

import numpy as np

from empir.data import Dataset, from_bytes, keras_file
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


def load(split: str = "test", data_dir=None, sample: bool = False) -> Dataset:
    """Load a split of MNIST.

    Sources, in this order: `data_dir` (idx files, gzipped or not, or mnist.npz); the Keras cache
    (~/.keras/datasets/mnist.npz) and download; for the test split, the embedded sample, which is
    the first 1,000 test images and is said loudly to be one.

    Args:
      split: "train" (60,000) or "test" (10,000).
      data_dir: folder; if given, nothing else is tried.
      sample: True = the embedded sample and nothing else.

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
        return _dataset(
            split, *_read_idx_pair(SAMPLES, "t10k", 1000), source="sample", is_sample=True
        )
    if data_dir:
        return _from_folder(split, data_dir)
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
    return _from_npz(split, path)


def _dataset(split, images, labels, source, is_sample=False):
    return from_bytes("mnist", split, images[..., np.newaxis], labels, source, is_sample)


def _from_folder(split, folder):
    if not os.path.isdir(folder):
        raise DataError("--data_dir=%s is not a folder" % folder)
    npz = os.path.join(folder, "mnist.npz")
    names = ["%s-%s" % (FILES[split], kind) for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    if os.path.exists(npz) and not any(_find(folder, name) for name in names):
        return _from_npz(split, npz)
    pair = _read_idx_pair(folder, FILES[split], SIZES[split], SHA256)
    return _dataset(split, *pair, source=folder)


def _find(folder, name):
    paths = [os.path.join(folder, name + suffix) for suffix in ("", ".gz")]
    return next((path for path in paths if os.path.exists(path)), None)


def _read_idx_pair(folder, prefix, count, checksums=None):
    images = _read_idx(folder, prefix + "-images-idx3-ubyte", (count, 28, 28), checksums)
    labels = _read_idx(folder, prefix + "-labels-idx1-ubyte", (count,), checksums)
    return images, labels


def _read_idx(folder, name, shape, checksums):
    path = _find(folder, name)
    if path is None:
        raise DataError("%s holds neither %s nor %s.gz (nor mnist.npz)" % (folder, name, name))
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("%s cannot be read (%s): fetch it again" % (path, error))
    header = struct.pack(">BBBB%dI" % len(shape), 0, 0, 8, len(shape), *shape)
    expected = len(header) + int(np.prod(shape))
    if len(data) != expected or not data.startswith(header):
        raise DataError(
            "%s holds %d bytes uncompressed, expected an idx file of %s with %d: fetch it again"
            % (path, len(data), "x".join(map(str, shape)), expected)
        )
    if checksums and hashlib.sha256(data).hexdigest() != checksums[name]:
        raise DataError("%s is not the official MNIST file (sha256 differs): fetch it again" % path)
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def _from_npz(split, path):
    if not zipfile.is_zipfile(path):
        raise DataError("%s cannot be read as mnist.npz (no zip file): fetch it again" % path)
    arrays = []
    for key, kind in (("x", "images-idx3-ubyte"), ("y", "labels-idx1-ubyte")):
        key = "%s_%s" % (key, split)
        try:
            with np.load(path, allow_pickle=False) as archive:
                array = archive[key]
        except (OSError, KeyError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise DataError("%s cannot be read as mnist.npz (%s): fetch it again" % (path, error))
        shape = (SIZES[split], 28, 28) if key[0] == "x" else (SIZES[split],)
        if array.shape != shape or array.dtype != np.uint8:
            raise DataError(
                "%s: %s is %s %s, expected uint8 %s" % (path, key, array.dtype, array.shape, shape)
            )
        arrays.append(array)
        header = struct.pack(">BBBB%dI" % len(shape), 0, 0, 8, len(shape), *shape)
        name = "%s-%s" % (FILES[split], kind)
        if hashlib.sha256(header + array.tobytes()).hexdigest() != SHA256[name]:
            raise DataError("%s: %s is not MNIST's (sha256 differs): fetch it again" % (path, key))
    return _dataset(split, *arrays, source=path)
