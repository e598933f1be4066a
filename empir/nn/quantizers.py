"""DoReFa quantizers: k-bit weights in [-1, 1] and k-bit activations in [0, 1].

Both round to the 2^k uniformly spaced levels of [0, 1] with n = 2^k - 1 steps,

    quantize_k(x) = round(n x) / n,    d quantize_k / dx := 1  (straight-through),

so the levels are k/n exactly, as float32 divides. Source: Zhou et al. 2016, "DoReFa-Net",
equations 5-9, as the original uses them (docs/original.md, Quantizers): no scale factor for
weights, also at one bit, and gradients that are not quantized.
"""

import copy

import numpy as np

from empir.errors import EmpirError
from empir.nn.precision import check_bits
from empir.runtime import tf

#: 1.5 * 2^23: float32 numbers near it are the integers, so adding it rounds, halves to even.
ROUNDING = 3 * 2.0**22
#: Steps up to which that holds of every level; above, `tf.round`, which is ten times slower.
ROUNDABLE = 2**16


#: Gradients that an activation quantizer can have, see `DoReFaActivations`.
BACKWARD_PASSES = ("clipped", "open", "smooth")


def check_backward(name: str) -> str:
    """Return the name of a backward pass; `EmpirError` if it is none of `BACKWARD_PASSES`."""
    if name not in BACKWARD_PASSES:
        raise EmpirError("backward=%r: choose from %s" % (name, ", ".join(BACKWARD_PASSES)))
    return name


def _opaque(value: float, dtype=np.float32):
    """A constant that TensorFlow's graph optimizer (Grappler) takes for a variable.

    Grappler assumes real arithmetic where this module relies on float32's. With plain constants it
    turns a division into a multiplication by the reciprocal, whose levels are off by a rounding
    error, turns (x + c) - c into x, joins a factor with those of the operations before it, and
    drops a factor of 1, after which the operations before and after it are neighbours.
    """
    return tf.placeholder_with_default(np.array(value, dtype), [])


def _round(x, steps):
    """x to the nearest integer, halves to even; x in [0, steps].

    Both operations are subtractions, because Grappler sums chains of additions in another order:
    of (y + 0.5) + c it makes y + (0.5 + c), and c + 0.5 is c in float32.
    """
    if steps > ROUNDABLE or x.dtype != tf.float32:
        return tf.round(x)
    return (x - _opaque(-ROUNDING)) - _opaque(ROUNDING)


def divide(x, steps):
    """The levels x / steps in [0, 1] of integers x in [0, steps], exactly as float32 divides.

    Faithfulness: in the original TensorFlow multiplies by the reciprocal, see `_opaque`.
    """
    return x / _opaque(steps, x.dtype.as_numpy_dtype)


def _round_stochastically(x, seed):
    """x up or down to an integer, up with probability equal to its fraction."""
    low = tf.floor(x)
    # Not floor(x + noise), which can round up to a level above the highest.
    return low + tf.cast(_random(tf.shape(x), seed) < x - low, x.dtype)


def _random(shape, seed, normal=False):
    """Random numbers of a uniform distribution in [0, 1), or of the standard normal one.

    In a seeded training, a graph with a step counter, they are a function of the operation and the
    step, so that a training that is continued draws what it would have drawn.
    """
    step = tf.train.get_global_step()
    graph_seed, operation = tf.get_seed(seed)
    if step is None or graph_seed is None:
        return (tf.random_normal if normal else tf.random_uniform)(shape, seed=seed)
    key = tf.constant(graph_seed * 2**31 + operation, tf.int64)
    draw = tf.random.stateless_normal if normal else tf.random.stateless_uniform
    return draw(shape, tf.stack([key, tf.cast(step, tf.int64)]))


def _levels(x, bits, stochastic, seed):
    """round(n x) / n of x in [0, 1], for use inside of custom gradients."""
    steps = float(2**bits - 1)
    scaled = x * _opaque(steps, x.dtype.as_numpy_dtype)
    rounded = _round_stochastically(scaled, seed) if stochastic else _round(scaled, steps)
    return divide(rounded, steps)


def quantize_k(x, bits: int, stochastic: bool = False, seed=None):
    """Round values in [0, 1] to the nearest of 2^bits levels; the gradient passes unchanged.

    Args:
      x: float32 tensor of any shape, values in [0, 1].
      bits: 1..31.
      stochastic: round up with probability equal to the fraction instead (the original's
        `--stocRound`: floor plus a Bernoulli draw); halves are otherwise rounded to even.
      seed: operation seed of the draw.

    Raises:
      EmpirError: (a ValueError) for bits outside 1..31.
    """
    if check_bits(bits) is None:
        raise EmpirError(
            "bits=%r: quantize_k needs 1..31; full precision needs no quantizer" % bits
        )

    @tf.custom_gradient
    def straight_through(x):
        return _levels(x, bits, stochastic, seed), lambda dy: dy

    return straight_through(x)


class _Quantizer:
    def __init__(self, bits: int, stochastic: bool = False, seed=None):
        if check_bits(bits) is None:
            raise EmpirError("bits=%r: for full precision use no quantizer (None)" % bits)
        self.bits = bits
        self.stochastic = stochastic
        self.seed = seed

    @classmethod
    def from_config(cls, config):
        """Quantizer from `get_config`."""
        return cls(**config)

    def get_config(self):
        """The constructor's arguments, as Keras serializes them."""
        return {"bits": self.bits, "stochastic": self.stochastic, "seed": self.seed}

    def __repr__(self):
        suffix = ", stochastic=True" if self.stochastic else ""
        return "%s(bits=%d%s)" % (type(self).__name__, self.bits, suffix)


class DoReFaWeights(_Quantizer):
    """Weights to 2^bits levels in [-1, 1].

    forward:   t = tanh(w);  q = 2 quantize_k(t / (2 max|t|) + 1/2) - 1
    gradient:  straight through the rounding only; tanh and max|t| are differentiated.

    All-zero weights quantize to the level nearest to zero instead of NaN.

    Faithfulness: as the original (docs/original.md, Quantizers); its all-zero case was NaN.
    """

    def __call__(self, weights):
        """Quantized copy of a float32 tensor of any shape; the argument is never overwritten."""
        t = tf.tanh(weights)
        largest = tf.reduce_max(tf.abs(t))
        largest = tf.where(largest > 0, largest, tf.ones_like(largest))
        return 2 * quantize_k(t / largest / 2 + 0.5, self.bits, self.stochastic, self.seed) - 1


class DoReFaActivations(_Quantizer):
    """Activations to 2^bits levels in [0, 1].

    forward:   quantize_k(clip(x, 0, 1))
    gradient:  1 for 0 <= x <= 1, else 0: the backward pass "clipped", which trainings use.

    Attacks may replace a gradient that is of no use to them on the backward pass alone (BPDA,
    Athalye et al. 2018, arXiv 1802.00420). `with_backward` chooses the gradient, where
    n = 2^bits - 1 is the number of steps between levels:

      clipped   1 inside [0, 1], else 0
      open      1 everywhere; a rectifier before the quantizer still has the gradient 0 below 0
      smooth    6 t (1 - t) inside [0, 1], else 0, where t = n x - floor(n x). This is the
                derivative of a smooth staircase, whose steps are the cubic 3 t^2 - 2 t^3: 0 at
                levels, 3/2 between them, 1 in the mean. At 0 and at 1 it is 1, because images and
                saturated activations lie there.

    Faithfulness: as the original (docs/original.md, Quantizers), which quantizes the input image
    too.
    """

    backward = BACKWARD_PASSES[0]

    def with_backward(self, name: str) -> "DoReFaActivations":
        """The same quantizer with the backward pass of that name; `EmpirError` if there is none."""
        other = copy.copy(self)
        other.backward = check_backward(name)
        return other

    def __call__(self, activations):
        """Quantized copy of a float32 tensor of any shape."""
        return self._quantize(activations, 0.0)

    def rectified(self, activations):
        """Quantized copy of max(x, 0), with its gradient: 1 for 0 < x <= 1, else 0.

        The same as `self(tf.nn.relu(x))` in fewer passes over memory.
        """
        if self.stochastic:
            return self(tf.nn.relu(activations))
        # The least normal number rounds to zero; as the lower bound it tells zero from above it.
        return self._quantize(activations, np.finfo(np.float32).tiny)

    def _quantize(self, activations, lowest):
        @tf.custom_gradient
        def quantize(x):
            clipped = tf.raw_ops.ClipByValue(t=x, clip_value_min=lowest, clip_value_max=1.0)
            passes = tf.equal(x, clipped)
            slope = None
            if self.backward == "open":
                passes = x >= lowest if lowest else tf.ones_like(passes)
            elif self.backward == "smooth":
                slope = self._smooth_slope(clipped)

            def gradient(dy):
                return tf.where(passes, dy if slope is None else dy * slope, tf.zeros_like(dy))

            return _levels(clipped, self.bits, self.stochastic, self.seed), gradient

        return quantize(activations)

    def _smooth_slope(self, x):
        """Slope of the backward pass "smooth" at x in [0, 1]."""
        scaled = (2**self.bits - 1) * x
        above = scaled - tf.floor(scaled)  # the level below
        slope = 6 * above * (1 - above)
        return tf.where(tf.equal(x, 0) | tf.equal(x, 1), tf.ones_like(x), slope)


class NormalWeights:
    """Weights that are drawn anew at every use; they are not quantized.

    forward:   w + stddev * n, where n is of the standard normal distribution
    gradient:  passes unchanged to w

    Faithfulness: as the original's `--rand` (docs/original.md, Random weights).
    """

    stochastic = True

    def __init__(self, stddev: float = 1.0, seed=None):
        self.stddev = stddev
        self.seed = seed

    def __call__(self, weights):
        """A draw around a float32 tensor of any shape."""
        return weights + self.stddev * _random(tf.shape(weights), self.seed, normal=True)

    def get_config(self):
        """The constructor's arguments, as Keras serializes them."""
        return {"stddev": self.stddev, "seed": self.seed}

    @classmethod
    def from_config(cls, config):
        """From `get_config`."""
        return cls(**config)


#: For `keras.utils.deserialize_keras_object`.
QUANTIZERS = {cls.__name__: cls for cls in (DoReFaWeights, DoReFaActivations, NormalWeights)}


def weight_quantizer(bits, stochastic: bool = False, seed=None):
    """`DoReFaWeights` for 1..31 bits, None (no quantizer) for 32 or None; else `EmpirError`."""
    bits = check_bits(bits, "weight_bits")
    return None if bits is None else DoReFaWeights(bits, stochastic, seed)


def activation_quantizer(bits, stochastic: bool = False, seed=None):
    """`DoReFaActivations` for 1..31 bits, None (no quantizer) for 32 or None; else `EmpirError`."""
    bits = check_bits(bits, "activation_bits")
    return None if bits is None else DoReFaActivations(bits, stochastic, seed)
