"""Bit widths as data: one pair for all quantized layers of a network, or one pair per layer."""

import re
from typing import NamedTuple, Optional, Sequence, Tuple

from empir.errors import EmpirError

FULL_PRECISION_BITS = 32


def check_bits(bits: Optional[int], what: str = "bits") -> Optional[int]:
    """Return a bit width in its canonical form: 1..31, or None for full precision (32 or None).

    Raises:
      EmpirError: (a ValueError) for any other value.
    """
    if bits is None or bits == FULL_PRECISION_BITS:
        return None
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits < FULL_PRECISION_BITS:
        raise EmpirError(
            "%s=%r: bit widths are 1..31, or 32 (or None) for full precision" % (what, bits)
        )
    return bits


class Precision(NamedTuple):
    """Bits of one layer's weights and of the activations that it reads; None = full precision.

    It is a tuple, because its two numbers are written as they are into what is exported.
    """

    weight_bits: Optional[int] = None
    activation_bits: Optional[int] = None

    @classmethod
    def of(cls, weight_bits, activation_bits) -> "Precision":
        """A checked precision; raises `EmpirError` (a ValueError) outside 1..32."""
        return cls(
            check_bits(weight_bits, "weight_bits"), check_bits(activation_bits, "activation_bits")
        )

    @property
    def is_full(self) -> bool:
        """Whether neither weights nor activations are quantized."""
        return self.weight_bits is None and self.activation_bits is None

    def __str__(self):
        if self.is_full:
            return "fp"
        return "w%da%d" % tuple(bits or FULL_PRECISION_BITS for bits in self)


FULL = Precision()


def parse(text: str) -> Precision:
    """Precision from "fp" or "w2a4" (2-bit weights, 4-bit activations).

    Raises:
      EmpirError: for any other text or bits outside 1..32.
    """
    if text == "fp":
        return FULL
    match = re.fullmatch(r"w([0-9]+)a([0-9]+)", text)
    if not match:
        raise EmpirError(
            "precision %r: write fp, or w2a4 for 2-bit weights and 4-bit activations" % text
        )
    return Precision.of(int(match.group(1)), int(match.group(2)))


def parse_layers(text: str):
    """One precision for all layers, or one for each: "w2a4", or "w2a4/w2a2/fp".

    Returns:
      A `Precision`, or of text with slashes a tuple of them, in the order of the quantized layers.

    Raises:
      EmpirError: see `parse`; it names the part that is none.
    """
    precisions = tuple(parse(part) for part in text.split("/"))
    return precisions if len(precisions) > 1 else precisions[0]


def per_layer(precision, layers: int) -> Tuple[Precision, ...]:
    """One precision per quantized layer.

    Args:
      precision: a `Precision` for all layers, or a sequence of `layers` of them.
      layers: number of layers that the network quantizes.

    Raises:
      EmpirError: for a sequence of another length.
    """
    if isinstance(precision, Precision):
        return (precision,) * layers
    precisions = tuple(precision)
    if len(precisions) != layers:
        raise EmpirError(
            "%d layer-wise precisions given, but the network quantizes %d layers"
            % (len(precisions), layers)
        )
    return precisions


def from_lists(weight_bits: Sequence[int], activation_bits: Sequence[int]) -> Tuple[Precision, ...]:
    """Layer-wise precisions from two lists of bits; raises `EmpirError` if their lengths differ."""
    if len(weight_bits) != len(activation_bits):
        raise EmpirError(
            "%d layer-wise weight bits but %d activation bits: give one of each per layer"
            % (len(weight_bits), len(activation_bits))
        )
    return tuple(Precision.of(w, a) for w, a in zip(weight_bits, activation_bits))
