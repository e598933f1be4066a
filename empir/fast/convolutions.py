"""Convolutions in the shapes that CPU kernels are fast at: the same sums, other loops.

The plain formulation is `tf.nn.conv2d`; the tests hold each of these to it. What lags in it, on
CPUs, is strided convolutions, gradients with respect to inputs of few channels, and kernels as
large as their input (docs/performance.md). Three formulations mend that:

    Blocked        a convolution with stride s between images whose blocks of pixels are channels
                   (`tf.space_to_depth`): stride 1, a smaller kernel, more channels
    SubPixel       the plain convolution, whose input gradient is a strided convolution of the
                   output gradient to blocks of pixels
    MatrixProduct  a kernel as large as its input

Each has `rearrange(kernel)`, to be called once per kernel, and `__call__(x, kernel)` with its
result. Kernels are [height, width, in, out], images [n, height, width, channels], float32.
"""

from dataclasses import dataclass

import numpy as np

from empir.runtime import tf

#: Output channels that one vector register of float32 holds.
VECTOR = 16


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a convolution.

    Attributes:
      size: of the input.
      kernel: taps.
      stride: of the output in input pixels.
      outputs: of the plain convolution.
      before: zeros in front of the input.
    """

    size: int
    kernel: int
    stride: int
    outputs: int
    before: int

    @classmethod
    def of(cls, size: int, kernel: int, stride: int, padding: str):
        """The axis as TensorFlow pads it: padding is "same" or "valid"."""
        if padding == "valid":
            return cls(size, kernel, stride, (size - kernel) // stride + 1, 0)
        outputs = -(-size // stride)
        return cls(
            size, kernel, stride, outputs, max((outputs - 1) * stride + kernel - size, 0) // 2
        )


def _gather_taps(kernel, taps_y, taps_x):
    """Kernel values at index arrays [Ty, by, ey] and [Tx, bx, ex]; zero outside of the kernel.

    Returns [Ty, Tx, by, bx, in, ey, ex, out].
    """
    height, width, channels, filters = kernel.shape.as_list()
    padded = tf.pad(kernel, [[0, 1], [0, 1], [0, 0], [0, 0]])
    for axis, (taps, size) in enumerate([(taps_y, height), (taps_x, width)]):
        inside = np.where((taps >= 0) & (taps < size), taps, size)
        padded = tf.gather(padded, inside.ravel().astype(np.int32), axis=axis)
    padded = tf.reshape(padded, taps_y.shape + taps_x.shape + (channels, filters))
    return tf.transpose(padded, [0, 3, 1, 4, 6, 2, 5, 7])


def _convolve(x, kernel, strides, pads):
    """`tf.nn.conv2d` with the given zeros before and after each of the two axes."""
    same = [((t - 1) // 2, t // 2) for t in kernel.shape.as_list()[:2]]
    if strides == (1, 1) and list(pads) == same:
        padding = "SAME"
    else:
        padding = "VALID"
        if any(before or after for before, after in pads):
            x = tf.pad(x, [(0, 0)] + list(pads) + [(0, 0)])
    return tf.nn.conv2d(x, kernel, (1,) + tuple(strides) + (1,), padding)


class Blocked:
    """A convolution from blocks of pixels to blocks of pixels, by a convolution of stride 1.

    Input pixel b p + r is channel r of block p, output pixel e q + i channel i of block q, and
    b = stride * e, so that block q reads blocks q + t, and its pixel i the tap
    r + b t + before - stride * i of the plain kernel, if there is one.

    Args:
      axes: (vertical, horizontal) `Axis`.
      out_block: e.
    """

    def __init__(self, axes, out_block: int):
        self.axes = axes
        self.out_block = out_block
        self.in_block = axes[0].stride * out_block

    @classmethod
    def fits(cls, axes, out_block: int) -> bool:
        """Whether blocks divide the images."""
        return axes[0].stride == axes[1].stride and all(
            axis.size % (axis.stride * out_block) == 0 and axis.outputs % out_block == 0
            for axis in axes
        )

    def _offsets(self, axis):
        """First and last block, relative to its own, that an output block reads."""
        reach = axis.stride * (self.out_block - 1) + axis.kernel - 1 - axis.before
        return -axis.before // self.in_block, reach // self.in_block

    def _taps(self, axis):
        first, last = self._offsets(axis)
        t, r, i = np.ogrid[first : last + 1, : self.in_block, : self.out_block]
        return r + self.in_block * t + axis.before - axis.stride * i

    def rearrange(self, kernel):
        """Kernel [T, T, b * b * in, e * e * out]."""
        taps = _gather_taps(kernel, *[self._taps(axis) for axis in self.axes])
        ty, tx, by, bx, channels, ey, ex, filters = taps.shape.as_list()
        return tf.reshape(taps, [ty, tx, by * bx * channels, ey * ex * filters])

    def __call__(self, x, kernel):
        """Blocks [n, height / b, width / b, b * b * in] -> [n, ..., e * e * out]."""
        pads = []
        for axis in self.axes:
            first, last = self._offsets(axis)
            blocks = axis.outputs // self.out_block
            pads.append((-first, blocks + last - axis.size // self.in_block))
        return _convolve(x, kernel, (1, 1), pads)


class SubPixel:
    """The plain convolution of stride 1; its input gradient goes to blocks of pixels at once.

    A gradient for few channels leaves most of each vector register empty. Here the channels of
    b x b pixels fill one, by a convolution with stride b of the output gradient.

    Args:
      axes: (vertical, horizontal) `Axis` of stride 1.
      channels: of the input.
    """

    def __init__(self, axes, channels: int):
        self.axes = axes
        self.block = self.block_of(channels)

    @staticmethod
    def block_of(channels: int) -> int:
        """Side of the largest block whose pixels' channels fit one vector register."""
        return int(np.sqrt(VECTOR // channels))

    @classmethod
    def fits(cls, axes, channels: int) -> bool:
        """Whether there is anything to gain, blocks divide the image, and axes are padded alike."""
        block = cls.block_of(channels)
        alike = len({axis.outputs == axis.size for axis in axes}) == 1
        return block > 1 and alike and all(a.stride == 1 and a.size % block == 0 for a in axes)

    def _taps(self, axis):
        """Output t relative to the block's first pixel reaches pixel r by tap r + before - t."""
        first = axis.before - (axis.kernel - 1)
        t, r, _ = np.ogrid[first : self.block + axis.before, : self.block, :1]
        return r + axis.before - t

    def rearrange(self, kernel):
        """The plain kernel and that of the gradient, [T, T, out, >= b * b * in]."""
        taps = _gather_taps(kernel, *[self._taps(axis) for axis in self.axes])
        ty, tx, by, bx, channels, _, _, filters = taps.shape.as_list()
        taps = tf.reshape(taps, [ty, tx, by * bx * channels, filters])
        spare = -by * bx * channels % VECTOR
        backward = tf.pad(tf.transpose(taps, [0, 1, 3, 2]), [[0, 0], [0, 0], [0, 0], [0, spare]])
        return kernel, backward

    def __call__(self, x, kernels):
        """[n, height, width, in] -> [n, ..., out]."""
        padding = "SAME" if self.axes[0].outputs == self.axes[0].size else "VALID"
        used = self.block**2 * x.shape[-1].value
        ones = (1, 1, 1, 1)

        @tf.custom_gradient
        def convolve(x, forward, backward):
            def gradient(dy):
                pads = []
                for axis in self.axes:
                    first = axis.kernel - 1 - axis.before
                    pads.append((first, axis.size + axis.before - axis.outputs))
                blocks = _convolve(dy, backward, (self.block, self.block), pads)
                return tf.depth_to_space(blocks[..., :used], self.block), None, None

            return tf.nn.conv2d(x, forward, ones, padding), gradient

        return convolve(x, *[tf.convert_to_tensor(kernel) for kernel in kernels])


class MatrixProduct:
    """A convolution whose kernel is as large as its input."""

    @classmethod
    def fits(cls, axes) -> bool:
        """Whether the kernel covers the input, which is not padded."""
        return all(axis.outputs == 1 and axis.kernel == axis.size for axis in axes)

    def rearrange(self, kernel):
        """Matrix [height * width * in, out]."""
        height, width, channels, filters = kernel.shape.as_list()
        return tf.reshape(kernel, [height * width * channels, filters])

    def __call__(self, x, kernel):
        """[n, height, width, in] -> [n, 1, 1, out]."""
        rows, filters = kernel.shape.as_list()
        return tf.reshape(tf.matmul(tf.reshape(x, [-1, rows]), kernel), [-1, 1, 1, filters])
