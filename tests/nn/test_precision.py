"""Bit widths as data: what is accepted, how it is written, how it spreads over layers."""

import pytest

from empir.errors import EmpirError
from empir.nn import precision
from empir.nn.precision import FULL, Precision

#: Not bit widths: out of range, or of a type that only looks like an int (bool is one to Python).
BAD_BITS = (0, -1, 33, 64, True, False, 2.0, "2", (2,))


@pytest.mark.parametrize("bits", range(1, 32))
def test_bits_below_32_are_kept(bits):
    assert precision.check_bits(bits) == bits


@pytest.mark.parametrize("bits", [32, None])
def test_32_bits_mean_full_precision(bits):
    assert precision.check_bits(bits) is None


@pytest.mark.parametrize("bits", BAD_BITS, ids=repr)
def test_other_bits_are_an_error_that_names_them(bits):
    with pytest.raises(EmpirError) as error:
        precision.check_bits(bits, "wbits")
    assert isinstance(error.value, ValueError)
    assert "wbits=%r" % (bits,) in str(error.value) and "1..31" in str(error.value)


@pytest.mark.parametrize("bits", BAD_BITS, ids=repr)
def test_both_places_of_a_precision_are_checked(bits):
    with pytest.raises(EmpirError, match="weight_bits"):
        Precision.of(bits, 4)
    with pytest.raises(EmpirError, match="activation_bits"):
        Precision.of(2, bits)


@pytest.mark.parametrize(
    "weight_bits, activation_bits, text, is_full",
    [
        (2, 4, "w2a4", False),
        (1, 31, "w1a31", False),
        (None, 4, "w32a4", False),
        (2, None, "w2a32", False),
        (None, None, "fp", True),
    ],
)
def test_a_precision_is_written_and_read_back(weight_bits, activation_bits, text, is_full):
    written = Precision(weight_bits, activation_bits)
    assert str(written) == text
    assert precision.parse(text) == written
    assert written.is_full == is_full


def test_32_bits_are_read_as_full_precision():
    assert precision.parse("w32a32") == Precision.of(32, 32) == Precision.of(None, None) == FULL


@pytest.mark.parametrize(
    "text",
    ["", "w2", "a4", "a4w2", "w2a", "wa4", "W2A4", "w2a4x", " w2a4", "w2.0a4", "fp32", "2,4"],
)
def test_other_text_is_an_error_that_shows_how_to_write_it(text):
    with pytest.raises(EmpirError, match="write fp, or w2a4"):
        precision.parse(text)


def test_text_with_a_final_newline_is_an_error():
    with pytest.raises(EmpirError):
        precision.parse("w2a4\n")


@pytest.mark.parametrize("text, bad", [("w0a4", "weight_bits=0"), ("w2a33", "activation_bits=33")])
def test_text_with_bits_out_of_range_is_an_error(text, bad):
    with pytest.raises(EmpirError, match=bad):
        precision.parse(text)


@pytest.mark.parametrize(
    "text, parsed",
    [
        ("w2a4", Precision(2, 4)),
        ("fp", FULL),
        ("w2a4/w2a2/fp", (Precision(2, 4), Precision(2, 2), FULL)),
    ],
)
def test_precisions_are_read_for_all_layers_or_for_each(text, parsed):
    assert precision.parse_layers(text) == parsed
    assert isinstance(precision.parse_layers(text), type(parsed))


@pytest.mark.parametrize("text", ["", "/", "w2a4/", "w2a4//fp", "w2a4/2"])
def test_a_part_that_is_no_precision_is_an_error(text):
    with pytest.raises(EmpirError, match="write fp, or w2a4"):
        precision.parse_layers(text)


def test_one_precision_serves_all_layers():
    assert precision.per_layer(Precision(2, 4), 3) == (Precision(2, 4),) * 3


@pytest.mark.parametrize("kind", [tuple, list, iter])
def test_layer_wise_precisions_keep_their_order(kind):
    layers = (Precision(2, 4), FULL, Precision(4, 2))
    assert precision.per_layer(kind(layers), 3) == layers


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_one_precision_per_layer_is_needed(count):
    with pytest.raises(EmpirError, match="%d layer-wise .* 3 layers" % count):
        precision.per_layer([FULL] * count, 3)


def test_two_lists_give_one_precision_per_layer():
    layers = precision.from_lists([2, 32, 4], [4, 1, 32])
    assert layers == (Precision(2, 4), Precision(None, 1), Precision(4, None))


@pytest.mark.parametrize(
    "weight_bits, activation_bits, why",
    [
        ([2, 4], [4], "2 layer-wise weight bits but 1 activation bits"),
        ([], [4], "0 layer-wise weight bits but 1 activation bits"),
        ([2, 0], [4, 4], "weight_bits=0"),
        ([2, 4], [4, 33], "activation_bits=33"),
    ],
)
def test_lists_that_do_not_pair_up_are_an_error(weight_bits, activation_bits, why):
    with pytest.raises(EmpirError, match=why):
        precision.from_lists(weight_bits, activation_bits)
