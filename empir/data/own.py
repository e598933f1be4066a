"""Data of one's own from an .npz file, as `numpy.savez` writes it.

The file holds `images` and `labels`, which are taken as test images; or `x_test` and `y_test`, and
for a training `x_train` and `y_train` too. What is accepted:

- images: [n, height, width, channels], or [n, height, width] of one channel; either float32 in the
  range of images, or uint8 in 0..255 where that range is [0, 1], to which they are scaled;
- labels: [n] of any integer type, from 0 to the number of classes - 1;
- num_classes, if it is in the file: an integer; default: the network's, or the largest label + 1;
- clip_range, if it is in the file: the lowest and the highest value that an image may hold;
  default: the dataset's.

Nothing else may be in the file, so that no misspelt name is passed over.
"""

import os
from dataclasses import replace
from typing import Optional, Tuple

import numpy as np

from empir.data.dataset import OWN, Dataset, check
from empir.data.files import check_memory, open_arrays
from empir.errors import DataError

PAIRS = {"test": (("images", "labels"), ("x_test", "y_test")), "train": (("x_train", "y_train"),)}
#: Number of classes that no network has; a label of 2^63 or more would wrap to a negative one.
MOST_CLASSES = 2**31
OPTIONS = ("num_classes", "clip_range")


def load(
    split: str,
    path: str,
    clip_range: Tuple[float, float] = (0.0, 1.0),
    shape: Optional[Tuple[int, int, int]] = None,
    num_classes: Optional[int] = None,
    channels: str = "RGB",
) -> Dataset:
    """Load a split from an .npz file; see the module for what it holds.

    Args:
      split: "train" or "test".
      path: the file.
      clip_range: range of images if the file has no `clip_range`. If `shape` is given, the file's
        must equal it.
      shape: [height, width, channels] that a network takes; None = any.
      num_classes: number of classes that the network gives; None = the file's.
      channels: order of the colours, see `Dataset`.

    Returns:
      A dataset named "own data", whose `files` has the file's sha256.

    Raises:
      DataError: if the file cannot be read, holds no such arrays or others, or does not fit the
        network.
    """
    with open_arrays(path) as archive:
        names = _names(path, split, archive.names)
        options = _options(path, archive)
        given_range = _range(path, options, clip_range, shape is not None)
        head, labels_head = map(archive.header, names)
        _check_images(path, names[0], head.dtype, head.shape, shape, given_range)
        if labels_head.dtype.kind not in "iu" or labels_head.shape != head.shape[:1]:
            raise DataError(
                f"{path}: {names[1]} is {labels_head.dtype} {labels_head.shape}, expected integers"
                f" {head.shape[:1]}, one label for each image"
            )
        check_memory(f"{path}: {names[0]}", 5 * head.size)
        images, labels = archive.read(names[0]), archive.read(names[1])
        files = {os.path.basename(path): archive.sha256()}
    if images.dtype == np.uint8:
        images = images.astype(np.float32)
        images /= np.float32(255)
    images = images.reshape(images.shape + (1,) * (4 - images.ndim))
    labels = np.minimum(labels, MOST_CLASSES).astype(np.int64)
    classes = _classes(path, options, num_classes, labels)
    data = Dataset(OWN, split, images, labels, classes, given_range, path)
    return check(replace(data, channels=channels, files=files))


def _names(path, split, present):
    """Names of the split's images and labels; an error if it has none, two, or unknown arrays."""
    if split not in PAIRS:
        raise DataError(f"split {split!r}: choose from {', '.join(PAIRS)}")
    known = [name for pairs in PAIRS.values() for pair in pairs for name in pair]
    unknown = sorted(set(present) - set(known) - set(OPTIONS))
    if unknown:
        raise DataError(
            f"{path} has an array {unknown[0]}; known are {', '.join(known + list(OPTIONS))}"
        )
    found = [pair for pair in PAIRS[split] if set(pair) & set(present)]
    if not found:
        texts = " or ".join(" and ".join(pair) for pair in PAIRS[split])
        raise DataError(
            f"{path} has no {split} images: name them {texts}; it has"
            f" {', '.join(present) or 'no arrays'}"
        )
    if len(found) > 1:
        raise DataError(f"{path} has both {found[0][0]} and {found[1][0]}: leave one out")
    return found[0]


def _options(path, archive):
    """The arrays of `OPTIONS` that the file has."""
    options = {}
    for name in set(OPTIONS) & set(archive.names):
        if archive.header(name).shape not in ((), (2,)):
            raise DataError(f"{path}: {name} is of shape {archive.header(name).shape}")
        options[name] = archive.read(name)
    return options


def _range(path, options, default, fixed):
    """The range of images; that of the network if `fixed`."""
    if "clip_range" not in options:
        return tuple(float(value) for value in default)
    given = options["clip_range"]
    if given.shape != (2,) or not np.isfinite(given).all() or not given[0] < given[1]:
        raise DataError(
            f"{path}: clip_range is {' '.join(str(given.tolist()).split())}, expected the lowest"
            " and the highest value of an image"
        )
    given = tuple(float(value) for value in given)
    if fixed and given != tuple(default):
        raise DataError(
            "%s: clip_range is [%g, %g], but the network takes images in [%g, %g]"
            % ((path,) + given + tuple(default))
        )
    return given


def _check_images(path, name, dtype, dimensions, shape, clip_range):
    if dtype == np.uint8 and clip_range != (0.0, 1.0):
        raise DataError(
            "%s: %s is uint8, which would be scaled to [0, 1], but images lie in [%g, %g]: give "
            "float32 in that range" % ((path, name) + clip_range)
        )
    if dtype not in (np.uint8, np.float32) or len(dimensions) not in (3, 4) or 0 in dimensions:
        raise DataError(
            f"{path}: {name} is {dtype} {dimensions}, expected float32 or uint8 [n, height, width,"
            " channels]"
        )
    found = (tuple(dimensions[1:]) + (1,))[:3]
    if shape is not None and found != tuple(shape):
        raise DataError(
            f"{path}: {name} holds images of {'x'.join(map(str, found))}, but the network takes"
            f" {'x'.join(map(str, shape))}"
        )


def _classes(path, options, network, labels):
    """The number of classes: the network's, the file's, or as many as there are labels."""
    if "num_classes" not in options:
        return int(labels.max()) + 1 if network is None else network
    given = options["num_classes"]
    if given.shape != () or given.dtype.kind not in "iu" or not given > 0:
        raise DataError(f"{path}: num_classes is {given.tolist()}, expected an integer")
    if network not in (None, int(given)):
        raise DataError(f"{path}: num_classes is {given}, but the network has {network}")
    return int(given)
