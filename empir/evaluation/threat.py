"""The threat model: how far an adversarial image may lie from the clean one."""

from dataclasses import dataclass

import numpy as np

from empir.errors import EmpirError

#: Name of a norm -> its order.
NORMS = {"linf": np.inf, "l2": 2}
#: How far rounding in float32 may carry an image out of its ball: as a share of the radius, and of
#: the largest value of an image.
SLACK, RESOLUTION = 1e-5, 2.0**-22


@dataclass(frozen=True)
class Threat:
    """Adversarial images lie within a distance of the clean image, and in the range of images.

    Attributes:
      norm: a name of `NORMS`.
      eps: the radius, in units of the images.

    Raises:
      EmpirError: for an unknown norm, or a radius that is not finite and greater than 0.
    """

    norm: str = "linf"
    eps: float = 0.3

    def __post_init__(self):
        if self.norm not in NORMS:
            raise EmpirError(f"norm={self.norm!r}: choose from {', '.join(NORMS)}")
        if not 0 < self.eps < np.inf:
            raise EmpirError(f"eps={self.eps!r} must be finite and greater than 0")

    @property
    def order(self) -> float:
        """Order of the norm: inf or 2."""
        return NORMS[self.norm]

    def reach(self, clip_range, size: int) -> float:
        """Largest distance that counts as inside the ball, of float32 images.

        Args:
          clip_range: lowest and highest value of an image.
          size: number of values of an image.
        """
        largest = max(abs(limit) for limit in clip_range)
        return self.eps * (1 + SLACK) + RESOLUTION * largest * norm_of_ones(self.norm, size)

    def contains(self, images, adversarial, clip_range) -> np.ndarray:
        """Which adversarial images are finite, in range and inside the ball; bool [n].

        Args:
          images, adversarial: float32 [n, height, width, channels].
          clip_range: lowest and highest value of an image.
        """
        low, high = clip_range
        flat = adversarial.reshape(len(images), images[0].size if len(images) else 1)
        change = flat.astype(np.float64) - images.reshape(flat.shape)
        with np.errstate(invalid="ignore"):
            distance = np.linalg.norm(change, self.order, axis=1)
            near = distance <= self.reach(clip_range, flat.shape[1])
            return near & ((flat >= low) & (flat <= high)).all(axis=1)


def norm_of_ones(norm: str, size: int) -> float:
    """Norm of an image of `size` ones."""
    return 1.0 if norm == "linf" else float(np.sqrt(size))
