"""Datasets: images in a declared range with their labels, and the table that --dataset names."""

import contextlib
import hashlib
import sys
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np

from empir.data import subsets
from empir.errors import DataError, EmpirError

#: Name of data that are not one of the known datasets.
OWN = "own data"
#: How to use such data, for messages of what refuses them.
WAYS = "pass --any_data to use what is in it, or give images of your own by --data=FILE.npz"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of one split.

    Attributes:
      name: "mnist", "cifar10", "imagenet", or `OWN`.
      split: "train" or "test".
      images: float32 [n, height, width, channels] in [clip_min, clip_max]; an array, or what gives
        arrays where it is indexed with an array of rows (`imagenet.load`).
      labels: int64 [n], 0 <= label < num_classes; likewise.
      num_classes: number of classes.
      clip_range: lowest and highest value that an image may hold.
      source: where the data came from, for logs and records.
      is_sample: whether this is the embedded sample and not the whole split.
      channels: "RGB" or "BGR", the order of an image's channels if there are three.
      files: base name -> sha256 of each file of data of one's own; empty for known datasets.
      chosen: how a stratified subset was drawn (`subsets.describe`); empty for all images and for
        the first ones.
      rows: numbers in the split of a stratified subset's images, int64 [n]; None: they are the
        first n.
    """

    name: str
    split: str
    images: np.ndarray
    labels: np.ndarray
    num_classes: int
    clip_range: Tuple[float, float]
    source: str
    is_sample: bool = False
    channels: str = "RGB"
    files: Mapping[str, str] = field(default_factory=dict)
    chosen: Mapping[str, object] = field(default_factory=dict)
    rows: Optional[np.ndarray] = None

    @property
    def numbers(self) -> np.ndarray:
        """The number of each image in its split, from 0; int64 [n]."""
        return np.arange(len(self.labels)) if self.rows is None else self.rows

    def first(self, n: int) -> "Dataset":
        """The first n examples; `EmpirError` if there are fewer than n, or n < 1."""
        if not 1 <= n <= len(self.labels):
            raise EmpirError(
                f"nb_samples={n}: {self.source} has 1..{len(self.labels)} {self.split} images"
            )
        chosen = dict(self.chosen, first=n) if self.chosen and n < len(self.labels) else self.chosen
        images, labels = _first(self.images, n), _first(self.labels, n)
        rows = self.rows if self.rows is None else self.rows[:n]
        return replace(self, images=images, labels=labels, chosen=chosen, rows=rows)

    def subset(self, n: int, seed: int = subsets.SEED) -> "Dataset":
        """n examples in their order, drawn with each class's share (`subsets.stratified`).

        All examples are the dataset itself. Raises `EmpirError` as `first` does.
        """
        if not 1 <= n < len(self.labels):
            return self.first(n)
        rows = subsets.stratified(self.labels, n, seed)
        images, labels = (
            array[rows] if isinstance(array, np.ndarray) else subsets.Rows(array, rows)
            for array in (self.images, self.labels)
        )
        chosen, numbers = subsets.describe(rows, seed), self.numbers[rows]
        return replace(self, images=images, labels=labels, chosen=chosen, rows=numbers)

    def described(self, record: dict, n: int) -> "Dataset":
        """The n examples of this split that a record's `data` describes (`describe`)."""
        if record.get("subset") == subsets.STRATIFIED:
            return self.subset(n, record["subset_seed"])
        return self.first(n)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The examples' order in a training epoch, a permutation; a function of (seed, epoch)."""
        if isinstance(self.images, np.ndarray):
            return np.random.RandomState([seed, epoch]).permutation(len(self.labels))
        return self.images.order(seed, epoch)

    def stream(self, batches, seed: int, epoch: int):
        """(images, labels) of each of a training epoch's batches, index arrays."""
        if not isinstance(self.images, np.ndarray):
            yield from self.images.stream(batches, seed, epoch)
            return
        for rows in batches:
            yield self.images[rows], self.labels[rows]

    def digest(self) -> str:
        """sha256 of images and labels: what a resumed run must share with the one it continues."""
        sha = hashlib.sha256()
        for array in (self.images, self.labels):
            if isinstance(array, np.ndarray):
                sha.update(np.ascontiguousarray(array).data)
            else:
                sha.update(array.digest.encode("utf8"))
        return sha.hexdigest()

    def describe(self) -> dict:
        """What a record says of the data: what they are, split, `digest`, `chosen`, `files`.

        The last two are there if the images are a stratified subset, and if they are one's own.
        """
        source = "embedded sample" if self.is_sample else "whole split"
        own = {"files": dict(self.files)} if self.files else {}
        source = OWN if own else source
        return dict(source=source, split=self.split, sha256=self.digest(), **own, **self.chosen)


def _first(array, n):
    return array[:n] if isinstance(array, np.ndarray) else array.first(n)


def check(dataset: Dataset) -> Dataset:
    """Return the dataset if its shapes, values and labels are valid; else raise `DataError`."""
    images, labels = dataset.images, dataset.labels
    where = f"{dataset.name} {dataset.split} images of {dataset.source}"
    if images.ndim != 4 or images.dtype != np.float32:
        raise DataError(
            f"{where}: expected float32 [n, h, w, c], got {images.dtype} {images.shape}"
        )
    if not len(images):
        raise DataError(f"{where}: there are none")
    if len(images) != len(labels):
        raise DataError(f"{where}: {len(images)} images but {len(labels)} labels")
    low, high = dataset.clip_range
    bad = ~((images >= low) & (images <= high)).reshape(len(images), -1).all(axis=1)
    if bad.any():
        raise DataError(
            f"{where}: image {np.argmax(bad)} holds NaN or values outside [{low:g}, {high:g}]"
        )
    wrong = (labels < 0) | (labels >= dataset.num_classes)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise DataError(
            f"{where}: label {labels[index]} of example {index} is not in"
            f" 0..{dataset.num_classes - 1}"
        )
    return dataset


def from_bytes(name, split, images, labels, source, is_sample=False, files=None) -> Dataset:
    """A checked dataset of ten classes from uint8 images [n, h, w, c], which are scaled to [0, 1].

    Args:
      name, split, source, is_sample: see `Dataset`.
      images, labels: arrays.
      files: `Dataset.files` if the data are not those of that name; their name is `OWN` then.

    Raises:
      DataError: if a label is not in 0..9.
    """
    scaled = images.astype(np.float32)
    scaled /= np.float32(255)
    data = Dataset(name, split, scaled, labels.astype(np.int64), 10, (0.0, 1.0), source, is_sample)
    return check(replace(data, name=OWN, files=files) if files else data)


def keras_file(name: str, url: str) -> str:
    """Path of a file in the Keras cache (~/.keras/datasets), downloaded if it is not there.

    Raises:
      DataError: if it cannot be downloaded; the text is the reason.
    """
    from empir.runtime import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras prints its progress to standard output
            return keras.utils.get_file(name, origin=url)
    except Exception as error:  # Keras raises whatever the download met
        raise DataError(str(error).split("\n")[0])


@dataclass(frozen=True)
class Row:
    """What is known of a dataset before it is loaded.

    Attributes:
      name: what --dataset calls it, and its folders below checkpoints/ and results/.
      load: `load(split, folder)` gives the `Dataset` of the split "train" or "test". The folder is
        that of --data_dir, or None.
      shape: (height, width, channels) of an image.
      num_classes: number of classes.
      clip_range: the lowest and the highest value that an image may hold.
      title: its name in texts.
      channels: order of an image's colours, see `Dataset`.
      options: names of keyword arguments that `load` takes besides, such as "sample".
      defaults: fields of `empir.experiments.Experiment` that differ from those of the paper's
        dataset with images of this shape.
    """

    name: str
    load: Callable
    shape: Tuple[int, int, int]
    num_classes: int
    clip_range: Tuple[float, float]
    title: str
    channels: str
    options: Tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def open(self, split: str, folder: Optional[str] = None, **options) -> Dataset:
        """Load a split.

        Args:
          split: "train" or "test".
          folder: where the files are, or None.
          **options: further arguments of `load`, each one of `options`.

        Raises:
          DataError: if the images or labels are not what this row says, or as of `load`.
          EmpirError: for an option that the dataset does not have.
        """
        for name in set(options) - set(self.options):
            raise EmpirError(f"--{name} is not for {self.title}: drop it")
        found = self.load(split, folder, **options)
        kinds = (found.images.shape[1:], found.num_classes, tuple(found.clip_range))
        expected = (tuple(self.shape), self.num_classes, tuple(self.clip_range))
        if kinds != expected:
            texts = [
                f"images {shape} in {n} classes and {low:g}..{high:g}"
                for shape, n, (low, high) in (kinds, expected)
            ]
            raise DataError(f"{self.name}: loaded were {texts[0]}, registered are {texts[1]}")
        return check(found) if isinstance(found.images, np.ndarray) else found


#: Datasets by name.
DATASETS: Dict[str, Row] = {}


def register(
    name: str,
    load: Callable,
    shape: Tuple[int, int, int],
    *,
    num_classes: int = 10,
    clip_range: Tuple[float, float] = (0.0, 1.0),
    title: str = "",
    channels: str = "RGB",
    options: Tuple[str, ...] = (),
    **defaults,
) -> Row:
    """Add a dataset to the table.

    Args:
      name: see `Row`, as of the others; `title` is the name by default.
      **defaults: see `Row.defaults`, for example eps=8/255 or architecture="Small".

    Returns:
      The row. In a file, its name is what --dataset=FILE.py:NAME takes.

    Raises:
      EmpirError: if there is a dataset of that name already.
    """
    if name in DATASETS:
        raise EmpirError(f"the dataset {name!r} cannot be added: there is one of that name")
    row = Row(
        name=name,
        load=load,
        shape=tuple(shape),  # type: ignore[arg-type]  # its length is the caller's
        num_classes=num_classes,
        clip_range=tuple(clip_range),  # type: ignore[arg-type]  # and so is this one's
        title=title or name,
        channels=channels,
        options=tuple(options),
        defaults=defaults,
    )
    DATASETS[name] = row
    return row
