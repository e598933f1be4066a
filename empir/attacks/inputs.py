"""What an attack accepts as images and labels: one clear error instead of a wrong number."""

from typing import Callable, Optional

import numpy as np

from empir.errors import EmpirError
from empir.runtime import tf

#: Share of the range by which images may leave it: float32 rounds.
ROUNDING = 1e-5


def checked_images(images, low: Optional[float], high: Optional[float]) -> np.ndarray:
    """Images [n, ...] for `generate_np` as an array; they must be floats in [low, high] if given.

    Raises:
      EmpirError: for integers, which are mostly 0..255 where [0, 1] is meant; for NaN; for values
        outside the range.
    """
    images = np.asarray(images)
    if images.dtype.kind != "f" or images.ndim < 2:
        raise EmpirError(
            "images are %s %s: give float32 [n, ...], bytes divided by 255"
            % (images.dtype, images.shape)
        )
    flat = images.reshape(len(images), -1)
    bad = ~np.isfinite(flat).all(axis=1)
    if bad.any():
        raise EmpirError("image %d holds NaN or infinity" % int(np.argmax(bad)))
    numbers = (int, float, np.number)
    if isinstance(low, numbers) and isinstance(high, numbers) and flat.size:
        slack = ROUNDING * max(abs(float(low)), abs(float(high)))
        bad = ((flat < low - slack) | (flat > high + slack)).any(axis=1)
        if bad.any():
            worst = flat[int(np.argmax(bad))]
            raise EmpirError(
                "image %d holds values of %g to %g, outside [clip_min, clip_max] = [%g, %g]: scale "
                "the images, or give their range"
                % (int(np.argmax(bad)), worst.min(), worst.max(), low, high)
            )
    return images


def checked_labels(name: str, labels, count: int, classes: Callable[[], int]) -> np.ndarray:
    """Labels for `generate_np` as one-hot float32 [n, classes], or other weights of classes.

    Args:
      name: of the parameter, for messages.
      labels: integers [n], or one-hot [n, classes].
      count: n.
      classes: gives the number of classes, where it must be known.

    Raises:
      EmpirError: for another shape or type, an integer that is no class, or a row that is zero.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuf" or labels.shape[:1] != (count,):
        raise _wrong(name, labels.dtype, labels.shape, count)
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        number = classes()
        wrong = (labels < 0) | (labels >= number)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise EmpirError(
                "%s[%d]=%d is not one of the model's %d classes" % (name, row, labels[row], number)
            )
        return np.eye(number, dtype=np.float32)[labels]
    if labels.ndim != 2:
        raise _wrong(name, labels.dtype, labels.shape, count)
    with np.errstate(invalid="ignore"):
        empty = ~(labels.sum(axis=1) > 0)
    if empty.any():
        raise EmpirError(
            "row %d of %s names no class: it is %s"
            % (int(np.argmax(empty)), name, labels[int(np.argmax(empty))][:10].tolist())
        )
    return labels.astype(np.float32)


def label_tensor(name: str, labels, x, classes: Callable[[], int]):
    """Labels for `generate` as a one-hot tensor of x's type; arguments as of `checked_labels`.

    Integers that are no class are an error where the graph runs.

    Raises:
      EmpirError: for another shape or type, as far as they are known.
    """
    if not isinstance(labels, (tf.Tensor, tf.Variable)):
        labels = np.asarray(labels)
        count = x.shape[0].value
        if count is None and labels.ndim:
            count = len(labels)
        return tf.constant(checked_labels(name, labels, count, classes), x.dtype)
    rank, rows = labels.shape.ndims, x.shape[0].value
    if rank not in (None, 1, 2) or (rank == 1 and not labels.dtype.is_integer):
        raise _wrong(name, labels.dtype.name, labels.shape, rows)
    if rank and None not in (rows, labels.shape[0].value) and labels.shape[0].value != rows:
        raise _wrong(name, labels.dtype.name, labels.shape, rows)
    if rank == 1:
        return tf.gather(tf.eye(classes(), dtype=x.dtype), labels)
    return tf.cast(labels, x.dtype)


def _wrong(name, dtype, shape, count):
    n = "n" if count is None else count
    return EmpirError(
        "%s is %s %s: give integers [%s] or one-hot [%s, classes]" % (name, dtype, shape, n, n)
    )
