"""The balls that adversarial images may lie in."""

import numpy as np

#: Name of a norm -> its order.
NORMS = {"linf": np.inf, "l2": 2}
#: By how much rounding may leave a ball: a share of the radius, and of a value of an image.
SLACK, RESOLUTION = 1e-5, 2.0**-22


def reach(eps: float, norm: str, clip_range, size: int) -> float:
    """Largest distance that counts as inside a ball, of float32 images.

    Args:
      eps: its radius, in units of the images.
      norm: of `NORMS`.
      clip_range: lowest and highest value of an image.
      size: values of an image.
    """
    largest = max(abs(limit) for limit in clip_range)
    return eps * (1 + SLACK) + RESOLUTION * largest * diameter(norm, size)


def diameter(norm: str, size: int) -> float:
    """Norm of an image of ones."""
    return 1.0 if norm == "linf" else float(np.sqrt(size))
