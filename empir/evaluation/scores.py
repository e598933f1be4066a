"""An accuracy with its interval over images, and the paired test of two evaluations."""

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
