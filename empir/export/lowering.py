"""How integer products are written for ONNX Runtime: chains of steps, scales, and small integers.

ONNX Runtime multiplies unsigned bytes by signed bytes with sums of 32 bits, which are exact. Its
convolution `QLinearConv` rounds those sums to bytes at once,

    y = clip(round(scale * (sum + bias)), 0, 255), in float32, halves to even.

A `Chain` is a product with all that follows it up to the next quantizer, when one such convolution
computes that quantizer's levels. With n steps after a product over d, scale is n / d, and all sums
that are not clipped are 0..d: `exact_scale` tries every one of them. An average of rectified sums
is a second convolution, of ones. Its bytes hold no sum above 255, so where larger ones count the
first convolution has several outputs for each channel, of which each holds the part of the sum that
is above the last one's.

A bias or a batch normalisation becomes a scale and a bias of each channel. The bias is an integer,
so it is off by up to a half of the sums' unit; weights of few bits are multiplied by a factor that
makes this unit smaller. This is the only place where integers differ from `empir.export.integer`.
"""

from dataclasses import dataclass, replace
from typing import List, Optional, Sequence, Tuple

import numpy as np

from empir.export.steps import (
    Affine,
    Flatten,
    Multiply,
    Network,
    Pool,
    Quantize,
    Rectify,
    Step,
    Window,
)

#: The largest weight of a signed byte.
LARGEST = 127
#: Processors without VNNI add two products in 16 bits, which saturate.
LARGEST_PAIR = 2**15 - 1
#: Largest integer up to which float32 holds all.
EXACT = 2**24
#: Bytes for each channel up to which large sums are cheaper to split than to compute otherwise.
MOST_PIECES = 4
#: Images of up to so many channels are convolved in blocks of pixels.
FEW_CHANNELS = 4
#: Sizes of a block of outputs along a row, of a convolution that steps by one pixel.
OUTPUTS = (1, 2, 4)


@dataclass(frozen=True)
class Chain:
    """A product of levels and quantized weights up to the next quantizer, as convolutions to bytes.

    Attributes:
      input: name of the levels that it reads.
      kernel: integers [height, width, in / groups, out], int64.
      scale: float32 [out].
      bias: int32 [out].
      window: None for a matrix product.
      groups: of the convolution.
      pools: windows of maxima over the levels.
      average: window of an average over rectified sums, before the quantizer.
      pieces: bytes of a sum, if they are averaged.
      steps: of the quantizer.
      average_scale: float32, n / (window's size * d).
      result: name of the quantizer's step.
    """

    input: str
    kernel: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    window: Optional[Window]
    groups: int
    pools: Tuple[Window, ...]
    average: Optional[Window]
    pieces: int
    steps: int
    average_scale: float
    result: str

    @property
    def key(self) -> tuple:
        """What is the same of chains that one convolution computes."""
        shape = self.kernel.shape[:-1]
        return (shape, self.window, self.pools, self.average, self.steps, self.pieces)


def joined(chains: Sequence[Chain]) -> Chain:
    """One chain with the channels of several that read the same levels."""
    arrays = {
        name: np.concatenate([getattr(chain, name) for chain in chains], axis=-1)
        for name in ("kernel", "scale", "bias")
    }
    return replace(chains[0], **arrays)


def exact_scale(denominator: int, steps: int, most: int) -> Optional[np.float32]:
    """The float32 by which sums are to be multiplied so that all are rounded as fractions are.

    Args:
      denominator: of the sums.
      steps: of the quantizer.
      most: sums above it are clipped.

    Returns:
      float32(steps / denominator), or None if it rounds a sum of 0..most differently than
      `integer.round_fraction`.
    """
    from empir.export.integer import round_fraction

    scale = np.float32(steps / denominator)
    sums = np.arange(most + 1, dtype=np.int64)
    found = np.clip(np.rint(sums.astype(np.float32) * scale), 0, steps)
    return scale if (found == round_fraction(steps * sums, denominator, steps)).all() else None


def is_integer(network: Network, step: Step) -> bool:
    """Whether a step is a product of levels and quantized weights."""
    if not isinstance(step, Multiply) or step.weight_steps is None:
        return False
    return isinstance(network.source(step.inputs[0]), Quantize)


def chain_of(network: Network, product: Multiply) -> Optional[Chain]:
    """The chain from a product of integers on; None if it has to be computed otherwise."""
    followers = _followers(network, product)
    if not followers or not isinstance(followers[-1], Quantize):
        return None
    levels = network.source(product.inputs[0])
    denominator = product.weight_steps * levels.steps  # type: ignore[union-attr]
    averages = [step for step in followers if isinstance(step, Pool) and step.average]
    chain = Chain(
        input=product.inputs[0],
        kernel=product.numerators,
        scale=np.ones(product.kernel.shape[-1], np.float32),
        bias=np.zeros(product.kernel.shape[-1], np.int32),
        window=product.window,
        groups=product.groups,
        pools=(),
        average=None,
        pieces=1,
        steps=followers[-1].steps,
        average_scale=1.0,
        result=followers[-1].name,
    )
    make = _averaged if averages else _rounded
    return make(chain, followers[:-1], denominator, levels.steps)  # type: ignore[union-attr]


def _followers(network, step) -> List[Step]:
    """The steps after a step up to a quantizer, as long as each has one reader."""
    found: List[Step] = []
    while True:
        readers = network.readers(step.name)
        if len(readers) != 1 or len(readers[0].inputs) != 1:
            return found
        (step,) = readers
        found.append(step)
        if isinstance(step, Quantize):
            return found


def _rounded(chain, between, denominator, levels):
    """A chain without an average: rounding commutes with rectifiers and maxima."""
    affine, pools = None, []
    for step in between:
        if isinstance(step, Pool):
            pools.append(step.window)
        elif isinstance(step, Affine) and affine is None and step.offset.ndim == 1:
            if pools and (step.factor < 0).any():
                return None
            affine = step
        elif not isinstance(step, (Rectify, Flatten)):
            return None
        elif affine is None and any(isinstance(later, Affine) for later in between):
            return None  # a rectifier before a normalisation
    if affine is not None:
        chain = _normalized(chain, affine, denominator, levels)
    else:
        scale = exact_scale(denominator, chain.steps, denominator)
        chain = scale and replace(chain, scale=np.full_like(chain.scale, scale))
    return chain and replace(chain, pools=tuple(pools))


def _normalized(chain, affine, denominator, levels):
    """A chain with the scale and the bias of a normalisation; None if these are out of range."""
    factor = np.where(affine.factor == 0, 1.0, np.abs(affine.factor)) * chain.steps / denominator
    finer = max(LARGEST // max(np.abs(chain.kernel).max(), 1), 1)
    finer = max(min(finer, LARGEST_PAIR // (2 * levels * max(np.abs(chain.kernel).max(), 1))), 1)
    bias = np.rint(affine.offset * chain.steps * finer / factor)
    if np.abs(bias).max() >= EXACT:
        return None
    return replace(
        chain,
        kernel=chain.kernel * finer * np.sign(affine.factor).astype(np.int64),
        scale=(factor / finer).astype(np.float32),
        bias=bias.astype(np.int32),
    )


def _averaged(chain, between, denominator, levels):
    """A chain with an average of rectified sums; None if it is of another kind."""
    *first, average = [step for step in between if not isinstance(step, (Rectify, Flatten))] or [
        None
    ]
    rectified = between.index(average) > 0 and any(
        isinstance(step, Rectify) for step in between[: between.index(average)]
    )
    maxima = all(isinstance(step, Pool) and not step.average for step in first)
    if not (isinstance(average, Pool) and average.average and rectified and maxima):
        return None
    if average.window.is_padded:
        return None
    count = average.window.size[0] * average.window.size[1]
    # The smallest sum that is rounded to the last level; larger ones count as it.
    most = -(-(2 * chain.steps - 1) * count * denominator // (2 * chain.steps))
    pieces = -(-most // 255)
    scale = exact_scale(count * denominator, chain.steps, pieces * 255 * count)
    if pieces > MOST_PIECES or scale is None:
        return None
    return replace(
        chain,
        kernel=np.concatenate([chain.kernel] * pieces, -1),
        scale=np.tile(chain.scale, pieces),
        bias=np.repeat(-255 * np.arange(pieces), len(chain.bias)).astype(np.int32),
        pools=tuple(step.window for step in first),
        average=average.window,
        pieces=pieces,
        average_scale=scale,
    )


def parts(kernel: np.ndarray) -> List[np.ndarray]:
    """Integers as sums of integers that fit into signed bytes: one, or three for weights of 8 bits,
    whose numerators have 9 with the sign."""
    found: List[np.ndarray] = []
    rest = kernel
    while not found or rest.any():
        found.append(np.clip(rest, -LARGEST, LARGEST))
        rest = rest - found[-1]
    return found


def as_bytes(kernel: np.ndarray, levels: int):
    """A kernel of -127..127 as bytes, and the byte that stands for zero.

    Signed ones, which are faster, or unsigned ones where signed ones might saturate on processors
    without VNNI.

    Args:
      kernel: integers.
      levels: the largest that they are multiplied by.
    """
    if 2 * levels * np.abs(kernel).max() <= LARGEST_PAIR:
        return kernel.astype(np.int8), np.int8(0)
    return (kernel + 128).astype(np.uint8), np.uint8(128)


def ungrouped(kernel: np.ndarray, groups: int) -> np.ndarray:
    """The kernel of a convolution in groups as that of one without, with zeros between groups."""
    if groups == 1:
        return kernel
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    full = np.zeros((*kernel.shape[:2], inputs * groups, kernel.shape[3]), kernel.dtype)
    for group in range(groups):
        into = slice(group * outputs, (group + 1) * outputs)
        full[:, :, group * inputs : (group + 1) * inputs, into] = kernel[..., into]
    return full


def places(size: Tuple[int, int], window: Window) -> Tuple[np.ndarray, np.ndarray]:
    """Where the windows of a padded image of a [height, width] are, for each axis.

    Returns:
      Rows of each row of windows, int64 [rows of windows, height of a window], and columns, int64
      [columns of windows, width of a window].
    """
    plain = window._replace(pads=((0, 0), (0, 0)))
    rows, columns = (
        np.arange(count)[:, None] * stride + np.arange(taps) * step
        for count, stride, taps, step in zip(plain.outputs(size), *plain[1::-1], window.dilation)
    )
    return rows, columns


@dataclass(frozen=True)
class Blocks:
    """A convolution of images with few channels, as one over blocks of pixels.

    A block of pixels becomes one pixel with more channels, and a block of outputs too. ONNX Runtime
    copies the pixels of each window into a row before it multiplies; of few channels that takes
    longer than the products.

    Attributes:
      pads: pixels added before and after: ((top, bottom), (left, right)).
      inner: [height, width] of a block of the input.
      outer: outputs along a row that make a block.
      kernel: over blocks.
    """

    pads: Tuple[Tuple[int, int], Tuple[int, int]]
    inner: Tuple[int, int]
    outer: int
    kernel: np.ndarray


def blocks(kernel: np.ndarray, window: Window, size: Sequence[int]) -> Optional[Blocks]:
    """The same convolution over blocks; None where that is of no use.

    Args:
      kernel: [height, width, in, out].
      window: of the convolution.
      size: [height, width] of the input.
    """
    if kernel.shape[2] > FEW_CHANNELS or min(window.size) < 2 or window.dilation != (1, 1):
        return None
    outputs = window.outputs(size)[1]
    wide = max(n for n in OUTPUTS if outputs % n == 0) if window.strides[1] == 1 else 1
    axes = [
        _block(*each) for each in zip(size, window.size, window.strides, window.pads, (1, wide))
    ]
    (rows, inner_y, _, above), (columns, inner_x, outer, left) = axes
    if (inner_y, inner_x) == (1, 1):
        return None
    channels, filters = kernel.shape[2:]
    spread = np.zeros((rows * inner_y, columns * inner_x, channels, outer, filters), kernel.dtype)
    height, width = window.size
    for x in range(outer):
        start = x * window.strides[1]
        spread[:height, start : start + width, :, x] = kernel
    spread = spread.reshape(rows, inner_y, columns, inner_x, channels, -1)
    spread = spread.transpose(0, 2, 1, 3, 4, 5).reshape(rows, columns, -1, spread.shape[-1])
    return Blocks((above, left), (inner_y, inner_x), outer, spread)


def _block(size, taps, stride, pads, outer):
    """Of one axis: blocks of the kernel, sizes of the input's and the output's blocks, padding."""
    outputs = (size + sum(pads) - taps) // stride + 1
    inner = stride * outer
    reach = -(-(stride * (outer - 1) + taps) // inner)
    total = inner * (outputs // outer + reach - 1)
    return reach, inner, outer, (pads[0], total - size - pads[0])
