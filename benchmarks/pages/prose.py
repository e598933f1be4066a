"""Figures in a page's sentences and examples, checked against the records as the tables are.

A comment behind a number says where it comes from and how it is written:

    It keeps 17.5<!-- robustness/mnist-baseline-0.1.json:worst_case_accuracy .1% --> %.

A source is a record below results/ and a key in it. Keys inside of others follow a point; an item
of a list goes by its number, or by its "name". `A - B` is the difference of two sources. The format
is Python's; of a percentage the sign is left out. `A.npz~B.npz:p` is McNemar's exact test of two
evaluations of the same images, from what was found on each; `:first` and `:second` are the numbers
of images that only one of them has as correct. Comments are not seen inside of code, so one in
front of a code block lists the sources of all decimal fractions in it, in their order:

    <!-- figures
    mnist/empir-paper/pgd/result.json:clean_accuracy .4f
    mnist/empir-paper/pgd/result.json:mean_l2 .4f
    -->
"""

import os
import re

from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.records.runs import read_json

_SOURCE = r"(?:[\w./-]+\.json:[\w./-]+|[\w./-]+\.npz~[\w./-]+\.npz:\w+)"
_CLAIM = r"(?P<first>%s)(?: - (?P<second>%s))? (?P<format>[,.\w%%]+)" % (_SOURCE, _SOURCE)
CLAIM = re.compile(_CLAIM)
_NUMBER = r"[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?"
FIGURE = re.compile(r"(?P<number>%s)(?P<comment><!-- %s -->)" % (_NUMBER, _CLAIM))
BLOCK = re.compile(
    r"(?P<comment><!-- figures\n(?P<claims>.*?)-->\n+)(?P<block>```.*?^```)", re.DOTALL | re.M
)
_DECIMAL = re.compile(r"\d+\.\d+")


def render(text: str, results: str) -> str:
    """A page's text with every marked figure as the records say.

    Args:
      text: Markdown.
      results: folder of the records.

    Raises:
      EmpirError: if a record or a key is missing, or a code block has another number of decimal
        fractions than its comment has lines.
    """
    text = BLOCK.sub(lambda match: _block(match, results), text)
    return FIGURE.sub(lambda match: _written(match, results) + match.group("comment"), text)


def differences(before: str, after: str) -> list:
    """Sources of the figures that differ between two texts of a page, as their comments say."""
    found = []
    for old, new in zip(BLOCK.finditer(before), BLOCK.finditer(after)):
        numbers = (_DECIMAL.findall(match.group("block")) for match in (old, new))
        for claim, pair in zip(CLAIM.finditer(old.group("claims")), zip(*numbers)):
            if pair[0] != pair[1]:
                found.append(claim.group())
    for old, new in zip(FIGURE.finditer(before), FIGURE.finditer(after)):
        if old.group("number") != new.group("number"):
            found += [claim.group() for claim in CLAIM.finditer(old.group("comment"))]
    return found


def _block(match, results):
    claims = list(CLAIM.finditer(match.group("claims")))
    count = len(_DECIMAL.findall(match.group("block")))
    if count != len(claims):
        raise EmpirError(
            f"a code block has {count} decimal fractions, but the comment in front of it lists "
            f"{len(claims)}, beginning with {match.group('claims').strip()[:80]!r}"
        )
    written = iter([_written(claim, results) for claim in claims])
    return match.group("comment") + _DECIMAL.sub(lambda _: next(written), match.group("block"))


def _written(claim, results):
    value = _value(claim.group("first"), results)
    if claim.group("second"):
        value -= _value(claim.group("second"), results)
    return format(value, claim.group("format")).rstrip("%")


def _value(source, results):
    name, _, key = source.partition(":")
    paths = [os.path.join(results, path) for path in name.split("~")]
    for path in paths:
        if not os.path.isfile(path):
            missing = os.path.relpath(path, results)
            raise EmpirError(f"the figure {source} is of no record: there is no {missing}")
    if len(paths) == 2:
        first, second = map(per_image.read, paths)
        value = vars(first.against(second))
    else:
        value = read_json(paths[0])
    for part in key.split("."):
        value = _inside(value, part, source)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise EmpirError(f"the figure {source} is {value!r}, not a number")
    return value


def _inside(value, part, source):
    """What a record's value holds under a part of a key."""
    try:
        if isinstance(value, list) and not part.isdigit():
            return next(item for item in value if item.get("name") == part)
        return value[int(part) if isinstance(value, list) else part]
    except (KeyError, IndexError, StopIteration, TypeError, AttributeError):
        raise EmpirError(f"the figure {source} is not in the record: it has no {part}")
