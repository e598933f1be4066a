"""RayS: an L-infinity attack that sees decisions only. Chen and Gu 2020, arXiv 2006.12792.

An adversarial image is looked for along rays: the image plus a radius times a direction of signs.
The radius of a direction is the smallest at which the model is fooled. Directions are improved by
turning over the signs of a block of pixels: first of all, then of halves, of quarters, and so on to
single pixels. A changed direction costs one query, which tells whether the model is fooled at the
smallest radius so far; only if it is, a binary search finds the new, smaller one.

Nothing is drawn at random unless `rand_init` is set, and no gradient or score is asked for, so that
neither hidden gradients nor the vote stand in its way.
"""

import itertools
import math
from typing import Callable

import numpy as np

from empir.errors import EmpirError
from empir.runtime import DEFAULT_SEED


class RayS:
    """RayS on whatever decides.

    Parameters: eps, radius, at which the search of an image ends; queries, the most for an image;
    tolerance of a binary search, as a radius; rand_init, start from random signs in place of ones;
    seed, of those; clip_min, clip_max, range of the images.

    Attributes:
      counts: number of queries for each image of the last search, int64 [n].

    Args:
      decide: `decide(images)` -> classes, int [n], of float32 images [n, h, w, c].
      num_classes: number of classes, which this attack does not need.
      **parameters: those above.

    Raises:
      EmpirError: for an unknown parameter, or one out of range.
    """

    decision_only = True
    defaults = dict(
        eps=0.3,
        queries=10000,
        tolerance=1e-4,
        rand_init=False,
        seed=DEFAULT_SEED,
        clip_min=0.0,
        clip_max=1.0,
    )

    def __init__(self, decide: Callable, num_classes: int, **parameters):
        unknown = sorted(set(parameters) - set(self.defaults))
        if unknown:
            raise EmpirError(f"RayS has no parameter {', '.join(unknown)}")
        for name, value in dict(self.defaults, **parameters).items():
            setattr(self, name, value)
        if not 0 <= self.eps < math.inf:
            raise EmpirError(f"eps={self.eps!r} must be finite and at least 0")
        for name in ("queries", "tolerance"):
            if not 0 < getattr(self, name) < math.inf:
                raise EmpirError(f"{name}={getattr(self, name)!r} must be finite and above 0")
        self._decide = decide
        self.counts = np.zeros(0, np.int64)

    def search(self, images, labels, starts=None, index=None) -> np.ndarray:
        """The closest misclassified images that were found, float32 [n, h, w, c].

        Where none was found, and where the image itself is misclassified, it is the image.

        Args:
          images: float32 [n, h, w, c].
          labels: true classes, int [n].
          starts: not read; other attacks on decisions start from misclassified images.
          index: int [n]; the first signs of image i are a function of (seed, index[i]); default:
            its place among the images.
        """
        index = np.arange(len(images)) if index is None else index
        search = _Search(self._decide, images, np.asarray(labels), self)
        signs = np.ones_like(search.clean)
        if self.rand_init:
            for row, number in enumerate(index):
                draw = np.random.RandomState([self.seed, int(number)])
                signs[row] = draw.choice([-1, 1], size=signs.shape[1])
        self.counts = search.counts
        return search.run(signs)


class _Search:
    """The state of one search: per image its radius so far, its image so far and its queries.

    Pixels are in rows, channel after channel, so that a block lies in one part of an image.
    """

    def __init__(self, decide, images, labels, parameters):
        self._decide, self._labels, self._parameters = decide, labels, parameters
        self._shape = images.shape
        self.clean = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        self.counts = np.zeros(len(images), np.int64)
        self._radii = np.full(len(images), parameters.clip_max - parameters.clip_min, np.float32)
        self._found = self.clean.copy()

    def run(self, signs):
        """Search from first directions [n, pixels]; images as in `RayS.search`."""
        wrong = self._is_wrong(np.arange(len(self.clean)), self.clean)
        self._radii[wrong] = 0
        never = ~wrong
        for first, last in _blocks(self.clean.shape[1]):
            more = self.counts < self._parameters.queries
            rows = np.flatnonzero(more & (self._radii > self._parameters.eps))
            if not rows.size:
                break
            turned = signs[rows]
            turned[:, first:last] *= -1
            fooled, radii = self._radii_along(rows, turned)
            better = fooled & ((radii < self._radii[rows]) | never[rows])
            rows, turned = rows[better], turned[better]
            signs[rows], self._radii[rows], never[rows] = turned, radii[better], False
            self._found[rows] = self._along(rows, turned, radii[better])
        return self._as_images(self._found)

    def _radii_along(self, rows, signs):
        """Whether a direction fools at the smallest radius so far, and its radius if it does."""
        high = self._radii[rows]
        low = np.zeros_like(high)
        fooled = self._is_wrong(rows, self._along(rows, signs, high))
        while True:
            wide = fooled & (high - low > self._parameters.tolerance)
            wide &= (high > self._parameters.eps) & (self.counts[rows] < self._parameters.queries)
            now = np.flatnonzero(wide)
            if not now.size:
                return fooled, high
            middle = (low[now] + high[now]) / 2
            wrong = self._is_wrong(rows[now], self._along(rows[now], signs[now], middle))
            high[now] = np.where(wrong, middle, high[now])
            low[now] = np.where(wrong, low[now], middle)

    def _along(self, rows, signs, radii):
        """Images at radii along directions, [rows, pixels]."""
        low, high = self._parameters.clip_min, self._parameters.clip_max
        return np.clip(self.clean[rows] + radii[:, np.newaxis] * signs, low, high)

    def _is_wrong(self, rows, pixels):
        self.counts[rows] += 1
        return np.asarray(self._decide(self._as_images(pixels))) != self._labels[rows]

    def _as_images(self, pixels):
        _, height, width, channels = self._shape
        images = pixels.reshape(len(pixels), channels, height, width)
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def _blocks(size: int):
    """Blocks to turn over, without end: none, all, halves, quarters, ..., then single pixels."""
    yield 0, 0
    for level in itertools.count():
        length = max(math.ceil(size / 2**level), 1)
        for first in range(0, size, length):
            yield first, min(first + length, size)
