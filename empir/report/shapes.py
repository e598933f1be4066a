"""Schemas of the records that reports read, and errors that name the file and the bad value.

A key that no report reads may be missing. Reading a missing key raises an error too.
"""

import math
from dataclasses import dataclass
from typing import Callable

from empir.errors import EmpirError
from empir.nn.precision import Precision
from empir.records.runs import read_json

REMEDY = "it is damaged or of another kind: make it again, or remove it"


class Record(dict):
    """A JSON object that raises `EmpirError` with its file and place if a key is missing.

    Args:
      content: the object.
      where: file and place in it.
    """

    def __init__(self, content: dict, where: str):
        super().__init__(content)
        self.where = where

    def __missing__(self, key):
        raise EmpirError("%s has no %r: %s" % (self.where, key, REMEDY))

    def plus(self, **more) -> "Record":
        """The same object with more keys, or other values of some."""
        return Record(dict(self, **more), self.where)


@dataclass(frozen=True)
class Kind:
    """A kind of value: its name, and a function that says whether a value is of it."""

    name: str
    holds: Callable


@dataclass(frozen=True)
class Every:
    """The shape of objects with any keys and values of one shape."""

    shape: object


@dataclass(frozen=True)
class Some:
    """The shape of lists with at least one item and items of one shape."""

    shape: object


def _number(value, low=-math.inf, high=math.inf):
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and abs(value) < 1e300 and low <= value <= high  # NaN is not either


def _bits(value):
    try:
        for bits in value if isinstance(value, list) else [value]:
            Precision.of(bits, bits)
    except (EmpirError, TypeError):
        return False
    return value != []


def maybe(kind: Kind) -> Kind:
    """A kind that may be null too."""
    return Kind("%s or null" % kind.name, lambda value: value is None or kind.holds(value))


NUMBER = Kind("a number", _number)
AMOUNT = Kind("a number of at least 0", lambda value: _number(value, 0))
POSITIVE = Kind("a number greater than 0", lambda value: _number(value, 1e-300))
COUNT = Kind("a whole number", lambda value: _number(value, 0) and isinstance(value, int))
IMAGES = Kind("a number of images", lambda value: _number(value, 1) and isinstance(value, int))
FRACTION = Kind("a fraction in [0, 1]", lambda value: _number(value, 0, 1))
TEXT = Kind("a text", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
BITS = Kind("bits", _bits)
NORM = Kind("linf or l2", lambda value: value in ("linf", "l2"))
RULE = Kind("a decision rule", lambda value: value in ("vote", "mean_logits", "mean_probs"))
PAIR = Kind(
    "a pair of numbers",
    lambda value: isinstance(value, list) and len(value) == 2 and all(map(_number, value)),
)
POINT = Kind(
    "a number and a fraction", lambda value: PAIR.holds(value) and FRACTION.holds(value[1])
)
INTERVAL = Kind(
    "a pair of fractions", lambda value: PAIR.holds(value) and all(map(FRACTION.holds, value))
)

MEMBER = {
    "path": maybe(TEXT),
    "sha256": maybe(TEXT),
    "weight_bits": BITS,
    "activation_bits": BITS,
}
ACCURACIES = {name: FRACTION for name in ("clean", "adversarial", "clean_top5", "adversarial_top5")}
#: What a record says of its images (`Dataset.describe`).
DATA = {"split": maybe(TEXT), "sha256": TEXT, "subset": maybe(TEXT), "subset_seed": COUNT}
#: result.json of an attack (`empir.evaluation.runner`).
RESULT = {
    "num_examples": IMAGES,
    "clean_accuracy": FRACTION,
    "adversarial_accuracy": FRACTION,
    "accuracy": Every(ACCURACIES),
    "member_accuracy": Some(ACCURACIES),
    "members": Some(MEMBER),
    "mean_l2": AMOUNT,
    "combine": RULE,
    "seconds": Every(NUMBER),
    "peak_memory_mb": AMOUNT,
    "attack": {"eps": NUMBER},
    "seed": COUNT,
    "data": DATA,
}
TRIAL = {
    "name": TEXT,
    "part": TEXT,
    "goal": maybe(TEXT),
    "eps": maybe(NUMBER),
    "steps": COUNT,
    "rounds": COUNT,
    "attacked": COUNT,
    "broken": COUNT,
    "targeted": FLAG,
    "everyone": FLAG,
    "accuracy": maybe(FRACTION),
    "worst_case": FRACTION,
    "seconds": NUMBER,
}
#: result.json of `empir robustness`.
ROBUSTNESS = {
    "dataset": TEXT,
    "architecture": TEXT,
    "combine": TEXT,
    "members": Some(MEMBER),
    "outside": [MEMBER],
    "eps": NUMBER,
    "norm": NORM,
    "num_examples": IMAGES,
    "clean_accuracy": FRACTION,
    "chance": maybe(FRACTION),
    "worst_case_accuracy": FRACTION,
    "interval": INTERVAL,
    "trials": [TRIAL],
    "curves": Every([POINT]),
    "verdicts": [{"name": TEXT, "title": TEXT, "passed": maybe(FLAG), "reason": TEXT, "see": TEXT}],
    "left_out": [{"attack": TEXT, "reason": TEXT}],
    "data": DATA,
    "seed": COUNT,
    "seconds": AMOUNT,
    "versions": Every(maybe(TEXT)),
    "git_commit": maybe(TEXT),
    "command": TEXT,
}
#: Of `python -m benchmarks.autoattack`.
OUTSIDE = dict(
    {
        key: ROBUSTNESS[key]
        for key in ("dataset", "architecture", "eps", "norm", "num_examples", "data")
    },
    images=IMAGES,
    clean_accuracy=FRACTION,
    suite_accuracy=FRACTION,
    members=Some(dict(MEMBER, path=TEXT)),
    transferred={"images": COUNT, "adversarial": COUNT},
    autoattack={
        "accuracy": FRACTION,
        "attacks": [{"seconds": NUMBER}],
        "broken_by_it_alone": COUNT,
    },
)


def read(path: str, shape: dict) -> Record:
    """The record in a file.

    Raises:
      EmpirError: if it is no JSON object, or a value in it is not of its kind.
    """
    return checked(read_json(path), shape, path)


def checked(value, shape, where: str):
    """A value with all objects in it as `Record`s.

    Args:
      value: of a JSON file.
      shape: a `Kind`; a dict of the shapes of keys that an object may have; a list with the shape
        of its items; `Every` or `Some`.
      where: file and place of the value.

    Raises:
      EmpirError: if a value is of another shape.
    """
    if isinstance(shape, Kind):
        if not shape.holds(value):
            raise EmpirError("%s is %.60r, not %s: %s" % (where, value, shape.name, REMEDY))
        return value
    if isinstance(shape, (list, Some)):
        if not isinstance(value, list) or (isinstance(shape, Some) and not value):
            raise EmpirError("%s is %.60r, not a list of values: %s" % (where, value, REMEDY))
        inner = shape.shape if isinstance(shape, Some) else shape[0]
        return [checked(item, inner, "%s[%d]" % (where, n)) for n, item in enumerate(value)]
    if not isinstance(value, dict):
        raise EmpirError("%s is %.60r, not an object: %s" % (where, value, REMEDY))
    content = dict(value)
    for key, item in value.items():
        inner = shape.shape if isinstance(shape, Every) else shape.get(key)
        if inner is not None:
            content[key] = checked(item, inner, _inside(where, key))
    return Record(content, where)


def _inside(where, key):
    """The place of a key: "FILE: a.b" of b in "FILE: a"."""
    return where + ("." if ": " in where else ": ") + str(key)
