"""The exact integer arithmetic against TensorFlow's layers, at every precision."""

import numpy as np
import pytest

from empir.export import integer
from empir.export.steps import Multiply, Quantize, Window, padding
from empir.models.member import Member
from empir.nn.precision import Precision, parse_layers
from empir.runtime import tf
from tests.support.quantized import drawn, images, steps

#: Few and many bits of weights and of activations, and layers of different precisions.
PRECISIONS = ["w1a8", "w8a1", "w8a8", "w2a32", "w32a3"]
PRECISIONS += ["w2a4/w1a1/w3a5/fp/w8a2/w2a3/w4a4"]


def evaluated(text, session, count=3):
    """A network's steps, TensorFlow's outputs and quantized inputs by layer, and its images."""
    precision = parse_layers(text)
    (model, network), x = drawn(precision, session), images(count)
    member = Member(model, [precision] if isinstance(precision, Precision) else precision)
    tensors = member.fprop(tf.constant(x))
    inputs = {}
    for layer in model.layers:
        if getattr(layer, "input_quantizer", None) is not None:
            before = layer.input.op.name.split("/")[0]
            source = tf.constant(x) if before.startswith("input") else tensors[before]
            inputs[layer.name] = layer.input_quantizer(source)
    outputs, levels = session.run((tensors, inputs))
    return network, outputs, levels, x


@pytest.mark.parametrize("text", PRECISIONS)
def test_results_are_those_of_the_layers(text, session):
    network, outputs, quantized, x = evaluated(text, session)
    # From TensorFlow's own levels on, so that a level that rounding decides is decided alike.
    given = {}
    own = integer.run(network, x)
    rounded = False
    for step in network.steps:
        if isinstance(step, Quantize):
            reader = network.readers(step.name)[0].name
            given[step.name] = np.rint(quantized[reader] * np.float64(step.steps))
            differ = own[step.name].numerators != given[step.name]
            # Behind a level that rounding decides others differ more.
            if not rounded:
                scaled = step.steps * np.clip(integer.real(own[step.inputs[0]]), 0, 1)
                assert (np.abs(scaled[differ] % 1 - 0.5) < 1e-4 * (1 + step.steps)).all()
            rounded |= differ.any()
    results = integer.run(network, x, given)
    compared = 0
    for name, output in outputs.items():
        found = results.get(f"{name}/bias", results.get(name))
        if found is not None:
            size, compared = np.abs(output).max(), compared + 1
            np.testing.assert_allclose(integer.real(found), output, 1e-4, 3e-6 * size, name)
    assert compared > 15 and network.logits == "logits/bias"


def test_sums_are_odd_fractions_and_integers_throughout():
    results = integer.run(steps(Precision(2, 4)), images(1))
    assert results["conv1"].denominator == results["relu2"].denominator == 3 * 15
    assert results["pool4"].denominator == 9 * 3 * 15
    assert results["conv1"].numerators.dtype == np.int64
    assert isinstance(results["pool4"], integer.Fraction)
    # A bias or a normalisation is a real number.
    assert results["bias5"].dtype == results["bn3"].dtype == np.float64


def test_rounding_is_to_the_nearest_and_of_halves_to_even():
    x = np.array([-3, 0, 1, 3, 4, 5, 7, 100])
    np.testing.assert_array_equal(integer.round_fraction(x, 2, 3), [0, 0, 0, 2, 2, 2, 3, 3])
    thirds = integer.round_fraction(np.arange(-2, 12), 3, 3)
    np.testing.assert_array_equal(thirds, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3])


def test_a_convolution_equals_a_plain_loop():
    random = np.random.RandomState(0)
    weights = 2 * random.randint(0, 4, (3, 2, 2, 6)) - 3
    window = Window((3, 2), (2, 1), padding("same", (7, 5), (3, 2), (2, 1)))
    step = Multiply("conv", ("x",), np.float32(weights / 3), 3, window, groups=2)
    x = random.randint(0, 16, (2, 7, 5, 4))
    sums = integer.multiply(step, integer.Level(x, 15)).numerators
    padded = np.pad(x, ((0, 0),) + window.pads + ((0, 0),), constant_values=0)
    for n, row, column, out in [(0, 0, 0, 0), (1, 3, 4, 5), (0, 2, 1, 3), (1, 1, 3, 2)]:
        total = 0
        for i in range(3):
            for j in range(2):
                for channel in range(2):
                    place = padded[n, 2 * row + i, column + j, channel + 2 * (out // 3)]
                    total += int(place) * int(weights[i, j, channel, out])
        assert sums[n, row, column, out] == total
    assert sums.shape == (2, 4, 5, 6)
