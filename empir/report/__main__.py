"""Write the tables into README.md between their markers: python -m empir.report [--check].

With --check nothing is written; the exit status is 1 if the README differs from the records, and
standard error says in which tables.
"""

import logging
import os
import re

from empir import clone, commandline
from empir.errors import EmpirError
from empir.protocols import EXPERIMENTS
from empir.report import benchmark, cost, defenses, outside, radius, robustness, tables
from empir.results import RESULTS
from empir.runs import write_atomically
from empir.runtime import ROOT

log = logging.getLogger("empir")

README = os.path.join(ROOT, "README.md")
TABLES = {
    "results": tables.markdown,
    "members": tables.member_markdown,
    "cost": tables.cost_markdown,
    "epochs": tables.epochs_markdown,
    "survivors": tables.survivors_markdown,
    "speed": tables.speed_markdown,
    "attacks": benchmark.attacks_markdown,
    "batches": benchmark.batches_markdown,
    "training": benchmark.training_markdown,
    "startup": benchmark.startup_markdown,
    "account": benchmark.account_markdown,
    "bounds": benchmark.bounds_markdown,
    "overhead": cost.markdown,
    "defenses": defenses.markdown,
    "robustness": robustness.summary,
    "outside": outside.table,
}
#: A table in the README: its kind, and its dataset.
PATTERN = re.compile(r"<!-- (%s):(\w+) -->.*?<!-- end -->" % "|".join(TABLES), re.DOTALL)


def render(text: str) -> str:
    """README text with every table between `<!-- KIND:DATASET -->` and `<!-- end -->` made anew."""

    def replace(match):
        kind, dataset = match.group(1), match.group(2)
        table = TABLES[kind](os.path.join(RESULTS, dataset), EXPERIMENTS.get(dataset))
        return "<!-- %s:%s -->\n%s\n<!-- end -->" % (kind, dataset, table)

    return PATTERN.sub(replace, text)


def differences(before: str, after: str) -> list:
    """Which tables differ between two texts of the README: "KIND:DATASET" of each."""
    pairs = zip(PATTERN.finditer(before), PATTERN.finditer(after))
    return ["%s:%s" % old.group(1, 2) for old, new in pairs if old.group() != new.group()]


def main(argv) -> int:
    """Update or check README.md; returns the exit status."""
    if argv not in ([], ["--check"]):
        raise EmpirError("usage: python -m empir.report [--check]")
    clone.require("python -m empir.report")
    with open(README) as file:
        before = file.read()
    after = render(before)
    if argv == ["--check"]:
        found = differences(before, after)
        if found:
            stale = ", ".join(found)
            log.error("README.md is not of the records in %s: run python -m empir.report", stale)
        return int(bool(found))
    write_atomically(README, after)
    folder = os.path.join(RESULTS, "mnist")
    if benchmark.load(folder):
        benchmark.plot(folder, os.path.join(RESULTS, "benchmark", "attacks.svg"))
    folder = os.path.join(RESULTS, "robustness")
    shown = [EXPERIMENTS[dataset] for dataset in ("mnist", "cifar10")]
    if os.path.isdir(folder):
        radius.plot(folder, shown, os.path.join(folder, "radius.svg"))
    return 0


if __name__ == "__main__":
    commandline.run_words(main, __doc__)
