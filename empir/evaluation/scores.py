"""Accuracies with intervals over images, paired tests, and differences over trainings."""

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from empir.errors import EmpirError


@dataclass(frozen=True)
class Score:
    """An accuracy in percent, the number of images, and its 95 % Wilson interval in percent."""

    percent: float
    examples: int
    interval: Tuple[float, float]


def score(fraction: float, examples: int) -> Score:
    """An accuracy as a `Score`.

    Args:
      fraction: of the images that are classified correctly, in [0, 1].
      examples: number of images.

    Raises:
      EmpirError: if there are no images, or the fraction is outside [0, 1].
    """
    from scipy.stats import binomtest  # here, as it takes half a second to import

    if examples < 1 or not 0 <= fraction <= 1:
        raise EmpirError(f"score({fraction!r}, {examples!r}): a fraction of at least one image")
    test = binomtest(round(fraction * examples), examples)
    low, high = test.proportion_ci(confidence_level=0.95, method="wilson")
    return Score(100 * fraction, examples, (100 * low, 100 * high))


@dataclass(frozen=True)
class Paired:
    """Two evaluations of the same images, compared image by image with McNemar's exact test.

    Attributes:
      images: number of images.
      first, second: number of them that only the first, or only the second, has as correct.
      p: two-sided p-value. It is the probability of numbers at least as unequal, if each of these
        images were as likely to be the first's as the second's.
    """

    images: int
    first: int
    second: int
    p: float


def paired(first: np.ndarray, second: np.ndarray) -> Paired:
    """McNemar's exact test of which images are correct, bool [n], in two evaluations of them.

    Raises:
      EmpirError: if the two are of different numbers of images.
    """
    from scipy.stats import binomtest  # see `score`

    if first.shape != second.shape:
        raise EmpirError(f"a paired test of {len(first)} and of {len(second)} images: not the same")
    only = int((first & ~second).sum()), int((second & ~first).sum())
    p = float(binomtest(only[0], sum(only)).pvalue) if any(only) else 1.0
    return Paired(len(first), *only, p)


@dataclass(frozen=True)
class Difference:
    """A mean difference between two accuracies over trainings and images, in percentage points.

    Attributes:
      points: the mean difference.
      interval: its 95 % interval, for other trainings and other images.
      trainings, images: numbers of them.
    """

    points: float
    interval: Tuple[float, float]
    trainings: int
    images: int


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """The mean difference of two accuracies that were measured on trainings and images together.

    Trainings and images are two crossed random effects: each cell is the mean plus what its
    training adds, what its image adds, and the rest. The variance of the mean comes from the sum of
    the mean squares of trainings and of images less that of the rest, and has Satterthwaite's
    degrees of freedom (F. E. Satterthwaite, An approximate distribution of estimates of variance
    components, 1946). An effect whose estimated variance is negative is taken to be none.

    Args:
      first, second: which images are correct, bool [trainings, images]. A row of both is of one
        training, and a column is one image.

    Raises:
      EmpirError: if the shapes differ, or for less than two trainings or images.
    """
    from scipy.stats import t  # see `score`

    if first.shape != second.shape or first.ndim != 2 or min(first.shape) < 2:
        raise EmpirError(
            f"a difference of arrays of shapes {first.shape} and {second.shape}: give two of "
            "[trainings, images], with at least two of each"
        )
    cells = 100.0 * (first.astype(int) - second.astype(int))
    mean, rows, columns = cells.mean(), cells.mean(1), cells.mean(0)
    trainings, images = cells.shape
    rest = cells - rows[:, None] - columns[None] + mean
    degrees = trainings - 1, images - 1, (trainings - 1) * (images - 1)
    sums = images * ((rows - mean) ** 2).sum(), trainings * ((columns - mean) ** 2).sum()
    squares = [total / free for total, free in zip((*sums, (rest**2).sum()), degrees)]
    variance, effective = max(
        (squares[0] + squares[1] - squares[2], _satterthwaite(squares, degrees)),
        (squares[0], degrees[0]),
        (squares[1], degrees[1]),
    )
    half = t.ppf(0.975, effective) * np.sqrt(variance / cells.size)
    return Difference(float(mean), (float(mean - half), float(mean + half)), trainings, images)


def _satterthwaite(squares, degrees):
    """Degrees of freedom of the first two mean squares less the third."""
    parts = sum(square**2 / free for square, free in zip(squares, degrees))
    return (squares[0] + squares[1] - squares[2]) ** 2 / parts if parts else degrees[1]
