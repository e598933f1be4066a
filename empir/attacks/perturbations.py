"""Perturbations: their norms, their projection onto a ball, and random ones."""

import numpy as np

from empir.runtime import tf


def project(eta, ord, eps):
    """Clip a perturbation [n, ...] to the ball of radius eps in the norm `ord` (inf, 1 or 2).

    Faithfulness: perturbations inside an L1 or L2 ball are left alone, as in CleverHans 2.1.0; the
    original always rescaled them onto its surface (docs/original.md, Defects 23).
    """
    if ord == np.inf:
        return tf.clip_by_value(eta, -eps, eps)
    return eta * tf.minimum(1.0, eps / norm(eta, ord))


def norm(eta, ord):
    """L1 or L2 norm of perturbations [n, ...], at least 1e-12 resp. 1e-6; shape [n, 1, ...]."""
    axes = list(range(1, len(eta.shape)))
    if ord == 1:
        return tf.maximum(1e-12, tf.reduce_sum(tf.abs(eta), axes, keepdims=True))
    return tf.sqrt(tf.maximum(1e-12, tf.reduce_sum(tf.square(eta), axes, keepdims=True)))


def unit(gradient):
    """Gradients [n, ...] as directions of L2 norm 1, however small they are; 0 where they are 0."""
    axes = list(range(1, len(gradient.shape)))
    largest = tf.reduce_max(tf.abs(gradient), axes, keepdims=True)
    scaled = tf.div_no_nan(gradient, largest)
    return scaled / norm(scaled, 2)


def noise(x, seed: int, index=None, normal: bool = False):
    """Random numbers of x's shape: example i's are a function of (seed, index[i]) alone.

    Args:
      x: float32 [n, ...].
      seed: 0..2^63 - 1.
      index: int64 [n]; None = 0..n-1.
      normal: standard normal numbers instead of uniform ones in [-1, 1).
    """
    if index is None:
        index = tf.range(tf.shape(x, out_type=tf.int64)[0])
    shape = tf.shape(x)[1:]

    def draw(i):
        pair = tf.stack([np.int64(seed), i])
        if normal:
            return tf.random.stateless_normal(shape, seed=pair)
        return 2 * tf.random.stateless_uniform(shape, seed=pair) - 1

    drawn = tf.map_fn(draw, tf.cast(index, tf.int64), dtype=x.dtype, back_prop=False)
    drawn.set_shape(x.shape)
    return drawn
