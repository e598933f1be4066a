"""The formulations of `empir.fast.convolutions` compute `tf.nn.conv2d` and its gradients."""

import numpy as np
import pytest

from empir.fast.convolutions import Axis, Blocked, MatrixProduct, SubPixel
from empir.runtime import tf

#: Sums of up to 2,304 products of numbers about 1, in another order, in float32.
TOLERANCE = 2e-4

# size, kernel, stride, padding
AXES = [
    (28, 8, 2, "same"),
    (14, 6, 2, "valid"),
    (224, 12, 4, "valid"),
    (12, 5, 3, "same"),
    (12, 1, 2, "same"),
    (16, 3, 4, "valid"),
    (10, 7, 1, "same"),
    (9, 4, 2, "valid"),
]


@pytest.mark.parametrize("size, kernel, stride, padding", AXES)
def test_an_axis_is_padded_as_tensorflow_does(size, kernel, stride, padding, session):
    axis = Axis.of(size, kernel, stride, padding)
    # The output at o is the input at stride * o + tap - before: a kernel with one tap tells.
    taps = np.zeros((kernel, 1, 1, 1), np.float32)
    taps[kernel // 2] = 1
    ramp = np.arange(1, size + 1, dtype=np.float32).reshape(1, size, 1, 1)
    found = session.run(tf.nn.conv2d(ramp, taps, (1, stride, 1, 1), padding.upper())).ravel()
    position = stride * np.arange(axis.outputs) + kernel // 2 - axis.before
    inside = (position >= 0) & (position < size)
    np.testing.assert_array_equal(found, np.where(inside, position + 1, 0))


def both(session, axes, channels, filters, padding, formulation, in_block=1, out_block=1):
    """Output and input gradient of the plain convolution and of a formulation, in pixels."""
    random = np.random.RandomState(0)
    sizes = [axis.size for axis in axes]
    strides = [1] + [axis.stride for axis in axes] + [1]
    kernel_shape = [axis.kernel for axis in axes] + [channels, filters]
    kernel = tf.Variable(random.normal(size=kernel_shape).astype(np.float32))
    x = tf.placeholder(tf.float32, [None] + sizes + [channels])
    plain = tf.nn.conv2d(x, kernel, strides, padding.upper())
    blocks = x if in_block == 1 else tf.space_to_depth(x, in_block)
    other = formulation(blocks, formulation.rearrange(tf.convert_to_tensor(kernel)))
    other = other if out_block == 1 else tf.depth_to_space(other, out_block)
    upstream = random.normal(size=[3] + plain.shape.as_list()[1:]).astype(np.float32)
    gradients = [tf.gradients(y, x, tf.constant(upstream))[0] for y in (plain, other)]
    session.run(kernel.initializer)
    return session.run(
        [(plain, gradients[0]), (other, gradients[1])],
        {x: random.normal(size=[3] + sizes + [channels])},
    )


def assert_equal(results):
    for plain, other in zip(*results):
        assert np.abs(plain).max() > 1
        np.testing.assert_allclose(other, plain, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "size, kernel, stride, padding, out_block",
    [
        (28, 8, 2, "same", 2),  # MNIST's first layer
        (28, 8, 2, "same", 1),
        (14, 6, 2, "valid", 1),  # its second
        (24, 12, 4, "valid", 1),  # AlexNet's first
        (12, 5, 3, "same", 1),
        (12, 5, 3, "same", 2),
        (12, 1, 2, "same", 3),
        (8, 3, 1, "same", 4),
        (16, 4, 4, "valid", 2),
    ],
)
def test_blocked_convolutions_equal_plain_ones(size, kernel, stride, padding, out_block, session):
    axes = (Axis.of(size, kernel, stride, padding),) * 2
    assert Blocked.fits(axes, out_block)
    blocked = Blocked(axes, out_block)
    blocks = blocked.in_block, out_block
    assert_equal(both(session, axes, 3, 5, padding, blocked, *blocks))


def test_axes_may_differ(session):
    tall, wide = Axis.of(12, 5, 2, "same"), Axis.of(16, 3, 2, "same")
    assert_equal(both(session, (tall, wide), 2, 4, "same", Blocked((tall, wide), 2), 4, 2))


@pytest.mark.parametrize("size, stride, out_block", [(27, 2, 1), (28, 2, 4), (10, 4, 1)])
def test_blocks_must_divide_the_images(size, stride, out_block):
    assert not Blocked.fits((Axis.of(size, 8, stride, "same"),) * 2, out_block)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size, kernel, channels", [(32, 5, 3), (32, 5, 1), (8, 3, 4), (12, 4, 2)])
def test_sub_pixel_gradients_equal_plain_ones(size, kernel, channels, padding, session):
    axes = (Axis.of(size, kernel, 1, padding),) * 2
    if size % SubPixel.block_of(channels):
        pytest.fail("choose a size that blocks divide")
    assert SubPixel.fits(axes, channels)
    assert_equal(both(session, axes, channels, 6, padding, SubPixel(axes, channels)))


@pytest.mark.parametrize("size, channels", [(32, 32), (32, 5), (31, 3)])
def test_many_channels_and_odd_sizes_keep_the_plain_gradient(size, channels):
    assert not SubPixel.fits((Axis.of(size, 5, 1, "same"),) * 2, channels)


def test_axes_padded_in_different_ways_keep_the_plain_gradient():
    # A kernel of one row leaves no row out, of four columns three.
    axes = (Axis.of(12, 1, 1, "valid"), Axis.of(24, 4, 1, "valid"))
    assert not SubPixel.fits(axes, 3)
    assert SubPixel.fits(axes[1:] * 2, 3) and SubPixel.fits(axes[:1] * 2, 3)


def test_a_kernel_as_large_as_its_input_is_a_matrix(session):
    axes = (Axis.of(5, 5, 1, "valid"), Axis.of(4, 4, 2, "valid"))
    assert MatrixProduct.fits(axes)
    assert_equal(both(session, axes, 7, 6, "valid", MatrixProduct()))
    assert not MatrixProduct.fits((Axis.of(5, 5, 1, "same"),) * 2)
