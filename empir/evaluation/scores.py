"""An accuracy with the interval that its number of images leaves it."""

from dataclasses import dataclass
from typing import Tuple

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
