"""DoReFa quantizers: levels, straight-through gradients, stochastic rounding, bad bits."""

import numpy as np
import pytest

from empir import runtime
from empir.errors import EmpirError
from empir.nn.quantizers import (
    DoReFaActivations,
    DoReFaWeights,
    activation_quantizer,
    quantize_k,
    weight_quantizer,
)
from empir.runtime import tf

BITS = tuple(range(1, 9))
BAD_BITS = (0, -1, 33, True, 2.0, "2")
DRAWS = 200000


def evaluate(function, values, upstream=None):
    """`function` of fed float32 values in a graph of its own; given `upstream`, also its gradient.

    The values are fed, as images are, so that TensorFlow cannot fold the quantizer into a constant.
    """
    values = np.asarray(values, np.float32)
    with tf.Graph().as_default() as graph, runtime.session(graph) as session:
        x = tf.placeholder(tf.float32, values.shape)
        y = function(x)
        if upstream is None:
            return session.run(y, {x: values})
        gradient = tf.gradients(y, x, tf.constant(upstream, tf.float32))[0]
        return session.run([y, gradient], {x: values})


def levels(bits):
    """The 2^bits levels k/n of [0, 1], divided in float32."""
    steps = 2**bits - 1
    return np.arange(steps + 1).astype(np.float32) / np.float32(steps)


def weights_on_levels(bits):
    """Weights whose normalised tanh lies on the levels, so that their rounding leaves no doubt."""
    steps = 2**bits - 1
    return np.arctanh(0.5 * (2 * np.arange(steps + 1.0) / steps - 1)).astype(np.float32)


def random_weights(random):
    """Convolution weights of both signs, float32 [3, 3, 2, 5]."""
    return random.normal(0, 0.3, (3, 3, 2, 5)).astype(np.float32)


def normalised(weights):
    """t / max|t| for t = tanh(weights), in float64."""
    t = np.tanh(np.asarray(weights, np.float64))
    return t / np.abs(t).max()


def normalised_gradient(weights, upstream):
    """Analytic gradient of `normalised`: max|t| depends on the largest weight alone."""
    t = np.tanh(np.asarray(weights, np.float64))
    largest = np.abs(t).max()
    through_t = upstream / largest
    is_largest = np.abs(t) == largest
    assert is_largest.sum() == 1
    through_largest = -(upstream * t).sum() / largest**2 * np.sign(t) * is_largest
    return (through_t + through_largest) * (1 - t**2)


# Levels


@pytest.mark.parametrize("bits", BITS + (12,))
def test_activation_levels_are_k_over_n_bit_for_bit(bits):
    quantized = evaluate(DoReFaActivations(bits), levels(bits))
    np.testing.assert_array_equal(quantized, levels(bits))


@pytest.mark.parametrize("bits", BITS + (12,))
def test_weight_levels_are_2k_over_n_minus_1_bit_for_bit(bits):
    quantized = evaluate(DoReFaWeights(bits), weights_on_levels(bits))
    np.testing.assert_array_equal(quantized, 2 * levels(bits) - 1)


@pytest.mark.parametrize("bits", BITS)
def test_every_activation_goes_to_its_nearest_level(bits):
    steps = 2**bits - 1
    # 20 points per step and some outside [0, 1], none on a half, which would be a tie.
    fine = ((np.arange(-20, 20 * steps + 20) + 0.5) / (20 * steps)).astype(np.float32)
    quantized = evaluate(DoReFaActivations(bits), fine)
    nearest = levels(bits)[np.abs(np.clip(fine, 0, 1)[:, None] - levels(bits)).argmin(axis=1)]
    # One ulp below 1: bit for bit is the tests' above. Levels are 1/255 apart or more.
    np.testing.assert_allclose(quantized, nearest, rtol=0, atol=2**-24)
    assert len(np.unique(quantized)) == 2**bits


@pytest.mark.parametrize("bits", BITS)
def test_weights_follow_the_formula(bits, random):
    weights = random_weights(random)
    steps = 2**bits - 1
    scaled = steps * (normalised(weights) / 2 + 0.5)
    sure = np.abs(scaled % 1 - 0.5) > 1e-3  # float32 and float64 may round the others differently
    assert sure.mean() > 0.9
    quantized = evaluate(DoReFaWeights(bits), weights)
    expected = 2 * np.round(scaled) / steps - 1
    # float32 resolves 2^-24 below 1, doubled; bit for bit is the tests' above.
    np.testing.assert_allclose(quantized[sure], expected[sure], rtol=0, atol=2**-22)
    assert quantized.min() >= -1 and quantized.max() <= 1


@pytest.mark.parametrize("bits, half", [(1, 0.0), (2, 2 / 3), (3, 4 / 7), (8, 128 / 255)])
def test_halves_round_to_even(bits, half):
    assert evaluate(DoReFaActivations(bits), [0.5])[0] == pytest.approx(half, rel=1e-6)


def test_one_bit_weights_are_signs_without_a_scale():
    weights = [-0.003, 0.001, -0.0002, 0.002]
    np.testing.assert_array_equal(evaluate(DoReFaWeights(1), weights), np.sign(weights))


def test_31_bits_change_next_to_nothing(random):
    # float32 resolves 2^-24 in [0, 1] and 2^-23 in [-1, 1], coarser than the levels; a few
    # operations round.
    activations = random.uniform(size=50).astype(np.float32)
    quantized = evaluate(DoReFaActivations(31), activations)
    np.testing.assert_allclose(quantized, activations, rtol=0, atol=2**-23)
    weights = random_weights(random)
    quantized = evaluate(DoReFaWeights(31), weights)
    np.testing.assert_allclose(quantized, normalised(weights), rtol=0, atol=2**-21)


# Properties


@pytest.mark.parametrize("bits", [2, 17, 31])
def test_double_precision_is_rounded_to_levels_of_its_own(bits, session, random):
    values = random.uniform(size=50)
    steps = 2**bits - 1
    found = session.run(quantize_k(tf.constant(values), bits))
    np.testing.assert_array_equal(found, np.round(values * steps) / steps)


@pytest.mark.parametrize("bits", BITS)
def test_quantizing_activations_twice_changes_nothing(bits, random):
    once = evaluate(DoReFaActivations(bits), random.uniform(-0.5, 1.5, 500))
    np.testing.assert_array_equal(evaluate(DoReFaActivations(bits), once), once)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("quantizer", [DoReFaActivations, DoReFaWeights])
def test_quantizing_keeps_the_order(quantizer, bits, random):
    ordered = np.sort(random.uniform(-1.5, 1.5, 500))
    assert (np.diff(evaluate(quantizer(bits), ordered)) >= 0).all()


@pytest.mark.parametrize("shape", [(1,), (4, 6), (2, 3, 5, 1)])
@pytest.mark.parametrize("quantizer", [DoReFaActivations(2), DoReFaWeights(2)], ids=repr)
def test_shape_and_dtype_are_kept(quantizer, shape):
    quantized = evaluate(quantizer, np.full(shape, 0.3))
    assert quantized.shape == shape and quantized.dtype == np.float32


# Gradients


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_rounding_passes_the_gradient_unchanged(bits, stochastic, random):
    upstream = random.normal(size=100).astype(np.float32)
    values = random.uniform(size=100)
    _, gradient = evaluate(lambda x: quantize_k(x, bits, stochastic), values, upstream)
    # n / n in float32 may miss 1 by an ulp or two.
    np.testing.assert_allclose(gradient, upstream, rtol=3e-7)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_activation_gradient_is_one_inside_the_range_and_zero_outside(bits, stochastic):
    # Next to the range; TensorFlow flushes denormal numbers, closer to 0, to 0.
    below, above = -np.finfo(np.float32).tiny, np.nextafter(np.float32(1), np.float32(2))
    inside, outside = [0, 1e-6, 0.3, 0.5, 0.999, 1], [-3, below, above, 7]
    _, gradient = evaluate(DoReFaActivations(bits, stochastic), inside + outside, np.ones(10))
    # n / n in float32 may miss 1 by an ulp or two.
    np.testing.assert_allclose(gradient[:6], 1, rtol=3e-7)
    np.testing.assert_array_equal(gradient[6:], 0)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_weight_gradient_goes_through_tanh_and_the_maximum(bits, stochastic, random):
    weights, upstream = random_weights(random), random.normal(size=(3, 3, 2, 5))
    _, gradient = evaluate(DoReFaWeights(bits, stochastic), weights, upstream)
    # float32 with a sum of 90 terms; the largest weight's gradient, which has the sum, is about 60.
    np.testing.assert_allclose(
        gradient, normalised_gradient(weights, upstream), rtol=1e-5, atol=1e-5
    )


def test_analytic_weight_gradient_agrees_with_finite_differences(random):
    weights, upstream = random_weights(random).astype(np.float64), random.normal(size=(3, 3, 2, 5))
    step = 1e-6
    for index in (np.unravel_index(np.abs(weights).argmax(), weights.shape), (0, 1, 1, 2)):
        change = np.zeros_like(weights)
        change[index] = step
        rise = normalised(weights + change) - normalised(weights - change)
        # Central differences: error of order step^2 = 1e-12, plus 1e-16 / step of rounding.
        np.testing.assert_allclose(
            normalised_gradient(weights, upstream)[index],
            (upstream * rise).sum() / (2 * step),
            rtol=1e-6,
        )


# All-zero weights


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("bits", BITS)
def test_all_zero_weights_give_the_levels_nearest_to_zero_and_a_finite_gradient(bits, stochastic):
    zeros = np.zeros((3, 3, 2, 5))
    quantized, gradient = evaluate(DoReFaWeights(bits, stochastic), zeros, np.ones_like(zeros))
    # +-1/n, to the tolerance of the formula test.
    np.testing.assert_allclose(np.abs(quantized), 1 / (2**bits - 1), rtol=0, atol=2**-22)
    assert np.isfinite(gradient).all()


# Stochastic rounding


@pytest.mark.parametrize("bits, value", [(1, 0.3), (2, 0.3), (2, 0.9), (4, 0.55), (8, 0.101)])
def test_stochastic_activations_are_neighbouring_levels_unbiased(bits, value):
    steps = 2**bits - 1
    quantized = evaluate(DoReFaActivations(bits, True, seed=1), np.full(DRAWS, value))
    low = np.floor(value * steps)
    assert set(np.round(quantized * steps)) == {low, low + 1}
    # The mean of 200,000 Bernoulli draws, whose standard deviation is at most half a step, has one
    # of 0.0011 steps; 5 of them.
    assert abs(quantized.mean(dtype=np.float64) - value) < 0.0056 / steps


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_stochastic_weights_are_unbiased_in_the_normalised_weight(bits):
    weights = np.tile(np.float32([-0.7, -0.2, 0.0, 0.1, 0.4]), (DRAWS // 5, 1))
    quantized = evaluate(DoReFaWeights(bits, True, seed=1), weights)
    steps = 2**bits - 1
    assert set(np.round((quantized.ravel() + 1) / 2 * steps)) <= set(range(steps + 1))
    # 40,000 draws per weight: at most 0.0025 steps of 2/n; 5 of them.
    expected = normalised(weights[0])
    np.testing.assert_allclose(
        quantized.mean(axis=0, dtype=np.float64), expected, rtol=0, atol=0.0125 * 2 / steps
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_stochastic_rounding_leaves_the_largest_level_alone(bits):
    quantized = evaluate(DoReFaActivations(bits, True, seed=3), np.ones(DRAWS))
    assert np.abs(quantized - 1).max() <= 2**-24  # one ulp, as above


@pytest.mark.parametrize("quantizer", [DoReFaActivations, DoReFaWeights])
def test_a_seed_repeats_the_draws(quantizer, random):
    values = random.uniform(size=1000)
    first, again, other = [evaluate(quantizer(2, True, seed), values) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_every_run_draws_anew(session, random):
    quantized = DoReFaActivations(2, True, seed=5)(tf.constant(random.uniform(size=1000), "float"))
    assert (session.run(quantized) != session.run(quantized)).any()


# Bits


@pytest.mark.parametrize("bits", BAD_BITS, ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        lambda bits: quantize_k(tf.zeros([1]), bits),
        DoReFaActivations,
        DoReFaWeights,
        activation_quantizer,
        weight_quantizer,
    ],
    ids=[
        "quantize_k",
        "DoReFaActivations",
        "DoReFaWeights",
        "activation_quantizer",
        "weight_quantizer",
    ],
)
def test_bad_bits_are_an_error(make, bits):
    with pytest.raises(EmpirError, match="bits=%r" % (bits,)) as error:
        make(bits)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("bits", [32, None])
def test_full_precision_needs_no_quantizer(bits):
    assert activation_quantizer(bits) is None
    assert weight_quantizer(bits) is None
    for make in (lambda b: quantize_k(tf.zeros([1]), b), DoReFaActivations, DoReFaWeights):
        with pytest.raises(EmpirError, match="full precision"):
            make(bits)


@pytest.mark.parametrize(
    "factory, quantizer",
    [(activation_quantizer, DoReFaActivations), (weight_quantizer, DoReFaWeights)],
)
def test_factories_pass_every_argument_on(factory, quantizer):
    made = factory(3, stochastic=True, seed=7)
    assert type(made) is quantizer
    assert made.get_config() == {"bits": 3, "stochastic": True, "seed": 7}
    assert factory(31).get_config() == {"bits": 31, "stochastic": False, "seed": None}


@pytest.mark.parametrize("quantizer", [DoReFaActivations(3), DoReFaWeights(4, True, 7)], ids=repr)
def test_a_quantizer_is_made_again_from_its_config(quantizer):
    copy = type(quantizer)(**quantizer.get_config())
    assert copy.get_config() == quantizer.get_config()
    assert repr(copy) == repr(quantizer)
