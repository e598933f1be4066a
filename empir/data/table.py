"""The table of datasets: what --dataset names. A program adds a row with `register`."""

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np

from empir.data.dataset import Dataset, check
from empir.errors import DataError, EmpirError


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
