"""Kinds of flags: numbers that may be fractions, counts with a largest value, seeds."""

import math

from absl import flags

from empir.attacks import MOST

#: The largest seed that everything random takes.
MOST_SEED = 2**31 - 1


class Number(flags.ArgumentParser):
    """Parses a finite number that is not negative, also one written as a fraction such as 8/255.

    Args:
      zero: whether 0 is accepted.
    """

    def __init__(self, zero: bool = True):
        super().__init__()
        self.syntactic_help = f"a finite number {'>=' if zero else '>'} 0, e.g. 0.1 or 8/255"
        self._zero = zero

    def parse(self, argument) -> float:
        """The number that a text means; ValueError, which absl completes, for any other text."""
        numerator, slash, denominator = str(argument).partition("/")
        try:
            value = float(numerator) / (float(denominator) if slash else 1.0)
        except (ValueError, ZeroDivisionError):
            value = math.nan
        if not (0 < value < math.inf or (self._zero and value == 0)):
            raise ValueError(f"write {self.syntactic_help}")
        return value

    def flag_type(self) -> str:
        """Name of the type, for absl."""
        return "number"


def define_number(name: str, default, text: str, zero: bool = True):
    """Define a flag for a finite number that is positive or, with `zero`, 0; see `Number`."""
    flags.DEFINE(Number(zero), name, default, text, serializer=flags.ArgumentSerializer())


def define_count(name: str, default, text: str, most: int = MOST):
    """Define a flag for a number of things, an integer of 1..most."""
    flags.DEFINE_integer(name, default, text, lower_bound=1, upper_bound=most)


def define_seed(default, text: str, name: str = "seed"):
    """Define a flag for a seed, an integer of 0..2^31 - 1."""
    flags.DEFINE_integer(name, default, text, lower_bound=0, upper_bound=MOST_SEED)
