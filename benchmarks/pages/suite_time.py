"""The adaptive suite's time beside AutoAttack's, as Markdown.

The record is that of `python -m benchmarks.suite_time`.
"""

import os

from benchmarks.pages.inference import MISSING
from benchmarks.pages.shapes import SUITE_TIME
from empir.experiments import EXPERIMENTS
from empir.report import rows, shapes
from empir.report.robustness import percent
from empir.report.tables import pipe_table

HEADS = ["network", "dataset, radius", "suite, s", "AutoAttack, s", "suite / AutoAttack"]
HEADS += ["suite leaves, %", "AutoAttack leaves, %"]


def markdown(folder: str, _) -> str:
    """`table` of the record beside a dataset's folder of results."""
    base = os.path.dirname(folder)
    path = os.path.join(base, "benchmark", "suite_time.json")
    if not os.path.exists(path):
        return MISSING
    return table(shapes.read(path, SUITE_TIME), os.path.join(base, "robustness"))


def table(record: dict, base: str) -> str:
    """Seconds of either, and what is left.

    Args:
      record: of `benchmarks.suite_time`.
      base: the folder robustness/ of the results, whose names the rows have.
    """
    named, made = {row.name: row for row in rows.suites(base)}, [HEADS]
    for name, found in record["rows"].items():
        row, (suite, other) = named[name], (found["suite"], found["autoattack"])
        rule = f", {row.rule}" if row.rule else ""
        made.append(
            [
                rows.KINDS[row.kind] + rule,
                f"{EXPERIMENTS[row.dataset].title}, {rows.ball(row.radius)}",
                *(f"{each['seconds']:,.0f}" for each in (suite, other)),
                "%.2f" % (suite["seconds"] / other["seconds"]),
                *(percent(each["accuracy"]) for each in (suite, other)),
            ]
        )
    return pipe_table(made, "ll")
