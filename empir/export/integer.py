"""The arithmetic of a quantized network in exact integers, written as plainly as possible.

An activation of a bits is a level k of 0..n_a, for the value k / n_a with n_a = 2^a - 1. A weight
of w bits is an odd numerator m of -n_w..n_w, for m / n_w with n_w = 2^w - 1. A sum of products is
an integer over n_a n_w. Rectifiers and pools keep fractions: the average of p values is their sum
over p times the denominator. A quantizer of n steps rounds a fraction s / d to

    clip(floor((2 n s + d) / (2 d)), 0, n),

and a half never occurs as d is odd, unless an average of an even number of values made it even;
then halves go to even, as everywhere. All of that is exact, and is what float32 approximates.

A bias or a batch normalisation multiplies a fraction by a real factor and adds an offset, which is
no fraction any more. It is computed in float64, as `factor * (s / d) + offset`, and a quantizer
after it rounds n times that, halves to even. Where that is not exactly what real numbers give, real
numbers are within a rounding of float64 of a tie.

Before the first quantizer there are float32 images, and n x is rounded to float32 once, as
TensorFlow does. Layers at full precision are computed in float64.
"""

from typing import Callable, Dict, Mapping, NamedTuple, Optional, Union

import numpy as np

from empir.export.steps import (
    IMAGES,
    Add,
    Affine,
    Flatten,
    Multiply,
    Network,
    Pool,
    Quantize,
    Rectify,
    Window,
)

#: Sums below it are exact in float64, whose matrix products are much faster than those of int64.
EXACT = 2**53


class Fraction(NamedTuple):
    """Values numerators / denominator.

    Attributes:
      numerators: int64, of any shape.
      denominator: a positive integer.
    """

    numerators: np.ndarray
    denominator: int

    @property
    def values(self) -> np.ndarray:
        """The values, float64."""
        return self.numerators / float(self.denominator)


class Level(Fraction):
    """What a quantizer gives: the level and its number of steps."""


#: float32 = images, float64 = real numbers.
Value = Union[Fraction, np.ndarray]


def run(
    network: Network, images: np.ndarray, given: Optional[Mapping[str, np.ndarray]] = None
) -> Dict[str, Value]:
    """All results of a network's steps.

    Args:
      network: the steps.
      images: float32 [n, height, width, channels].
      given: levels, int64, that replace the results of quantizers of these names; with those that a
        float32 network has computed, all after them is what follows from them.

    Returns:
      Name of a step -> a `Level` of quantizers, a `Fraction` of what follows from levels alone, and
      float64 of all else.
    """
    results: Dict[str, Value] = {IMAGES: np.asarray(images, np.float32)}
    for step in network.steps:
        inputs = [results[name] for name in step.inputs]
        if given and isinstance(step, Quantize) and step.name in given:
            results[step.name] = Level(np.asarray(given[step.name], np.int64), step.steps)
        else:
            results[step.name] = _COMPUTE[type(step)](step, *inputs)
    return results


def real(value: Value) -> np.ndarray:
    """A result as float64."""
    return value.values if isinstance(value, Fraction) else value.astype(np.float64)


def quantize(step: Quantize, x: Value) -> Level:
    """The levels 0..n of values."""
    n = step.steps
    if isinstance(x, Fraction):
        return Level(round_fraction(n * x.numerators, x.denominator, n), n)
    scaled = np.clip(x, 0, 1).astype(x.dtype) * x.dtype.type(n)
    return Level(np.rint(scaled).astype(np.int64), n)


def round_fraction(numerators, denominator: int, most: int) -> np.ndarray:
    """numerators / denominator to the nearest integer of 0..most, halves to even; int64."""
    rounded, rest = np.divmod(2 * numerators + denominator, 2 * denominator)
    rounded = rounded - ((rest == 0) & (rounded % 2 == 1))
    return np.clip(rounded, 0, most)


def multiply(step: Multiply, x: Value) -> Value:
    """A convolution or matrix product: exact of levels and quantized weights, else in float64."""
    if isinstance(x, Level) and step.weight_steps is not None:
        sums = _product(step, x.numerators, step.numerators)
        return Fraction(sums.astype(np.int64), x.denominator * step.weight_steps)
    kernel = step.kernel.astype(np.float64)
    if step.weight_steps is not None:
        kernel = step.numerators / float(step.weight_steps)
    return _product(step, real(x), kernel)


def _product(step, x, kernel):
    """Sums of products, float64; of integers they are exact."""
    parts = zip(np.split(x, step.groups, -1), np.split(kernel, step.groups, -1))
    return np.concatenate([_product_of_group(step, *part) for part in parts], -1)


def _product_of_group(step, x, kernel):
    if step.window is not None:
        x = windows(x, step.window)
        kernel = kernel.reshape(-1, kernel.shape[-1])
    if x.dtype.kind == "i" and np.abs(x).max(initial=0) * np.abs(kernel).sum(0).max() >= EXACT:
        raise OverflowError("the sums are too large to be exact in float64")
    return np.matmul(x.astype(np.float64), kernel.astype(np.float64))


def windows(x: np.ndarray, window: Window, fill=0) -> np.ndarray:
    """The windows of images [n, height, width, channels], [n, rows, columns, size * channels]."""
    x = np.pad(x, ((0, 0),) + window.pads + ((0, 0),), constant_values=fill)
    reach = [(size - 1) * step + 1 for size, step in zip(window.size, window.dilation)]
    counts = [(x.shape[1 + i] - reach[i]) // window.strides[i] + 1 for i in (0, 1)]
    parts = []
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            starts = row * window.dilation[0], column * window.dilation[1]
            ends = [start + (n - 1) * s + 1 for start, n, s in zip(starts, counts, window.strides)]
            rows, columns = (slice(*each) for each in zip(starts, ends, window.strides))
            parts.append(x[:, rows, columns])
    return np.concatenate(parts, -1)


def affine(step: Affine, x: Value) -> np.ndarray:
    """factor * x + offset in float64."""
    return step.factor * real(x) + step.offset


def rectify(step: Rectify, x: Value) -> Value:
    """max(x, 0)."""
    if isinstance(x, Fraction):
        return Fraction(np.maximum(x.numerators, 0), x.denominator)
    return np.maximum(x, 0)


def pool(step: Pool, x: Value) -> Value:
    """Maximum or average; padding counts in neither."""
    count = step.window.size[0] * step.window.size[1]
    if isinstance(x, Fraction) and not (step.average and step.window.is_padded):
        lowest = np.iinfo(np.int64).min
        parts = windows(x.numerators, step.window, 0 if step.average else lowest)
        parts = parts.reshape(parts.shape[:3] + (count, -1))
        if step.average:
            return Fraction(parts.sum(3), x.denominator * count)
        return Fraction(parts.max(3), x.denominator)
    parts = windows(real(x), step.window, np.nan)
    parts = parts.reshape(parts.shape[:3] + (count, -1))
    return np.nanmean(parts, 3) if step.average else np.nanmax(parts, 3)


def flatten(step: Flatten, x: Value) -> Value:
    """Values in a row."""
    if isinstance(x, Fraction):
        return type(x)(x.numerators.reshape(len(x.numerators), -1), x.denominator)
    return x.reshape(len(x), -1)


def add(step: Add, *values: Value) -> Value:
    """The sum."""
    fractions = [value for value in values if isinstance(value, Fraction)]
    if len(fractions) == len(values):
        common = int(np.lcm.reduce([value.denominator for value in fractions]))
        parts = [value.numerators * (common // value.denominator) for value in fractions]
        return Fraction(sum(parts), common)
    return sum(map(real, values))


_COMPUTE: Dict[type, Callable[..., Value]] = {
    Quantize: quantize,
    Multiply: multiply,
    Affine: affine,
    Rectify: rectify,
    Pool: pool,
    Flatten: flatten,
    Add: add,
}
