"""The adaptive suite's time beside AutoAttack's, as Markdown.

The record is that of `python -m benchmarks.suite_time`.
"""

import os

from benchmarks.pages import records
from benchmarks.pages.inference import MISSING
from benchmarks.pages.shapes import SUITE_TIME
from empir.experiments import EXPERIMENTS
from empir.report import rows
from empir.report.robustness import percent
from empir.report.tables import pipe_table

HEADS = ["network", "dataset, radius", "suite leaves, %", "AutoAttack leaves, %"]
HEADS += ["suite, s", "until equal, s", "AutoAttack, s"]
HEADS += ["suite / AutoAttack", "until equal / AutoAttack"]
#: Where the suite leaves more than AutoAttack.
NEVER = "never"


def markdown(folder: str, _) -> str:
    """`table` of the record beside a dataset's folder of results."""
    record = records.read(folder, "benchmark/suite_time.json", SUITE_TIME)
    if record is None:
        return MISSING
    return table(record, os.path.join(os.path.dirname(folder), "robustness"))


def table(record: dict, base: str) -> str:
    """What either leaves, its seconds, and those until the suite leaves no more than AutoAttack.

    Args:
      record: of `benchmarks.suite_time`.
      base: the folder robustness/ of the results, whose names the rows have.
    """
    named, made = {row.name: row for row in rows.suites(base)}, [HEADS]
    for name, found in record["rows"].items():
        row, (suite, other) = named[name], (found["suite"], found["autoattack"])
        rule = f", {row.rule}" if row.rule else ""
        cells = [rows.KINDS[row.kind] + rule]
        cells.append(f"{EXPERIMENTS[row.dataset].title}, {rows.ball(row.radius)}")
        cells += [percent(each["accuracy"]) for each in (suite, other)]
        seconds = [suite["seconds"], found["equal"], other["seconds"]]
        cells += [NEVER if spent is None else f"{spent:,.0f}" for spent in seconds]
        shares = [None if spent is None else spent / other["seconds"] for spent in seconds[:2]]
        cells += [NEVER if share is None else f"{share:.2f}" for share in shares]
        made.append(cells)
    return pipe_table(made, "ll")
