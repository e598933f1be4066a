"""Products of levels and quantized weights in ONNX graphs, by ONNX Runtime's operators for bytes.

Levels are tensors of unsigned bytes with the channels last. `lowering` has the numbers.
"""

from dataclasses import replace
from typing import Tuple

import numpy as np

from empir.export import lowering
from empir.export.onnx_graph import Graph, Value, attributes
from empir.export.steps import Multiply, Window

#: The largest number of steps whose levels are bytes.
MOST_STEPS = 255


class Products:
    """Appends products of bytes to a graph."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def chain(self, chain: lowering.Chain, x: Value) -> str:
        """A tensor of the bytes of a chain, [n, height, width, channels]."""
        graph = self.graph
        product = self.is_product(chain.window, chain.groups, x)
        if product:
            tensor = self.bytes_of_product(chain, x)
        else:
            tensor = self.bytes_of_convolution(chain, x)
        shape = chain.window.outputs(x.shape[:2]) if chain.window else (1, 1)
        for window in chain.pools:
            tensor = graph.add("NhwcMaxPool", tensor, own=True, **attributes(window, False))
            shape = window.outputs(shape)
        if chain.average is not None:
            tensor = self.average_of_bytes(chain, tensor, (*shape, len(chain.bias)))
        if chain.steps < MOST_STEPS:
            tensor = graph.add("Clip", tensor, np.uint8(0), np.uint8(chain.steps))
        return tensor

    @staticmethod
    def is_product(window, groups, x) -> bool:
        """Whether a convolution has one window, which is the whole input, or is none at all."""
        return window is None or (
            groups == 1 and window.size == tuple(x.shape[:2]) and not window.is_padded
        )

    def rows(self, x: Value, copies: int) -> str:
        """Bytes of each image in a row, repeated."""
        flat = self.graph.reshape(x.tensor, -1, int(np.prod(x.shape)))
        return flat if copies == 1 else self.graph.add("Concat", *[flat] * copies, axis=1)

    def bytes_of_product(self, chain, x):
        """A matrix product as a convolution of a single image, whose pixels are the images."""
        graph = self.graph
        parts = lowering.parts(chain.kernel.reshape(-1, chain.kernel.shape[-1]))
        kernel = np.concatenate(parts)
        flat = graph.reshape(self.rows(x, len(parts)), 1, -1, 1, len(kernel))
        given = (chain.scale, chain.bias, x.denominator)
        tensor = self.quantized(flat, kernel[None, None], *given, kernel_shape=[1, 1])
        return graph.reshape(tensor, -1, 1, 1, kernel.shape[1])

    def bytes_of_convolution(self, chain, x):
        """A convolution, over blocks of pixels if it reads images of few channels."""
        kernel, window, groups = chain.kernel, chain.window, chain.groups
        tensor, scale, bias = x.tensor, chain.scale, chain.bias
        blocks = lowering.blocks(kernel, window, x.shape[:2]) if groups == 1 else None
        if blocks is not None:
            tensor, kernel = self.in_blocks(tensor, x.shape, blocks), blocks.kernel
            window = Window(kernel.shape[:2], (1, 1), ((0, 0), (0, 0)))
            copies = kernel.shape[-1] // len(bias)
            scale, bias = np.tile(scale, copies), np.tile(bias, copies)
        parts = lowering.parts(kernel)
        if len(parts) > 1:
            tensor = self.repeated(tensor, len(parts), groups)
        geometry = dict(attributes(window), group=groups)
        kernel = np.concatenate(parts, axis=2)
        tensor = self.quantized(tensor, kernel, scale, bias, x.denominator, **geometry)
        if blocks is None:
            return tensor
        size = chain.window.outputs(x.shape[:2])
        return self.out_of_blocks(tensor, len(chain.bias), size, blocks.outer)

    def repeated(self, tensor: str, copies: int, groups: int) -> str:
        """Bytes [n, height, width, channels] with the channels of each group repeated."""
        parts = [tensor]
        if groups > 1:
            parts = self.graph.add("Split", tensor, outputs=groups, axis=3)
        return self.graph.add("Concat", *[part for part in parts for _ in range(copies)], axis=3)

    def in_blocks(self, tensor: str, shape, blocks: lowering.Blocks) -> str:
        """Bytes of images with each block of pixels as one pixel."""
        graph, (above, below), (left, right) = self.graph, *blocks.pads
        if any(map(any, blocks.pads)):
            pads = np.array([0, above, left, 0, 0, below, right, 0], np.int64)
            tensor = graph.add("Pad", tensor, pads, np.uint8(0))
        (inner_y, inner_x), (height, width, channels) = blocks.inner, shape
        rows, columns = (above + height + below) // inner_y, (left + width + right) // inner_x
        if inner_y > 1:
            tensor = graph.reshape(tensor, -1, rows, inner_y, columns, inner_x, channels)
            tensor = graph.add("Transpose", tensor, perm=[0, 1, 3, 2, 4, 5])
        return graph.reshape(tensor, -1, rows, columns, inner_y * inner_x * channels)

    def out_of_blocks(self, tensor: str, filters: int, size, outer: int) -> str:
        """Bytes of an output [n, *size, filters], from its blocks."""
        return tensor if outer == 1 else self.graph.reshape(tensor, -1, *size, filters)

    def average_of_bytes(self, chain, tensor, shape) -> str:
        """The levels of averages over bytes, of which `chain.pieces` make up a sum."""
        window, pieces = chain.average, chain.pieces
        height, width, channels = shape
        filters = channels // pieces
        tensor = self.graph.reshape(tensor, -1, height, width * pieces, filters)
        ones = np.ones((window.size[0], window.size[1] * pieces, 1, filters), np.int64)
        return self.quantized(
            tensor,
            ones,
            np.full(filters, chain.average_scale),
            np.zeros(filters, np.int32),
            255,
            kernel_shape=list(ones.shape[:2]),
            strides=[window.strides[0], window.strides[1] * pieces],
            group=filters,
        )

    def sums(self, step: Multiply, x: Value, shape: Tuple[int, ...]):
        """Sums of integers as float32, by a matrix product over all windows."""
        graph, kernel, window = self.graph, step.numerators, step.window
        if window is not None and not self.is_product(window, step.groups, x):
            x = self.windows(x, window)
            kernel = lowering.ungrouped(kernel, step.groups)
        parts = lowering.parts(kernel.reshape(-1, kernel.shape[-1]))
        weights, zero = lowering.as_bytes(np.concatenate(parts), x.denominator)
        given = [self.rows(x, len(parts)), weights]
        if zero:
            given += [np.uint8(0), zero]
        tensor = graph.add("Cast", graph.add("MatMulInteger", *given), to=1)
        if len(shape) == 3:
            tensor = graph.reshape(tensor, -1, *shape)
        return Value(tensor, shape, denominator=x.denominator * (step.weight_steps or 1))

    def windows(self, x: Value, window: Window) -> Value:
        """The bytes of all windows, one in a row: first of each row of an image, then of all."""
        graph, tensor, (height, width, channels) = self.graph, x.tensor, x.shape
        (above, below), (left, right) = window.pads
        if window.is_padded:
            pads = np.array([0, above, left, 0, 0, below, right, 0], np.int64)
            tensor = graph.add("Pad", tensor, pads, np.uint8(0))
        size = (height + above + below, width + left + right)
        rows, columns = lowering.places(size, window)
        count, taps = columns.shape
        tensor = graph.reshape(tensor, -1, size[0] * size[1], channels)
        each = np.arange(size[0])[:, None, None] * size[1] + columns
        tensor = graph.add("Gather", tensor, each.ravel(), axis=1)
        tensor = graph.reshape(tensor, -1, size[0] * count, taps * channels)
        each = rows[:, None] * count + np.arange(count)[:, None]
        tensor = graph.add("Gather", tensor, each.ravel(), axis=1)
        return replace(x, tensor=tensor, shape=(rows.shape[1] * taps * channels,))

    def quantized(self, x: str, kernel, scale, bias, levels: int, **geometry) -> str:
        """Bytes of a convolution of bytes, see `lowering`.

        Args:
          x: tensor [n, height, width, channels].
          kernel: integers of -127..127, [height, width, in / groups, out].
          scale, bias: one for each output.
          levels: largest byte of x.
          **geometry: attributes of the convolution.
        """
        weights, zero = lowering.as_bytes(kernel, levels)
        one, nothing = np.float32(1), np.uint8(0)
        scale = scale[0] if (scale == scale[0]).all() else scale
        zeros = np.full(np.shape(scale), zero, zero.dtype)
        given = [x, one, nothing, weights.transpose(3, 2, 0, 1), scale, zeros, one, nothing]
        if bias.any():
            given.append(bias)
        return self.graph.add("QLinearConv", *given, own=True, channels_last=1, **geometry)
