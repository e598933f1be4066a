"""The table of the records that `python -m benchmarks.autoattack` wrote, beside the suite's."""

import os

import numpy as np

from benchmarks.pages.suites import images
from empir.report import rows, shapes
from empir.report.robustness import percent
from empir.report.tables import pipe_table

HEADS = [
    "network",
    "decision rule",
    "radius",
    "images",
    "suite, %",
    "AutoAttack, %",
    "both, %",
    "difference, points",
    "suite, s",
    "AutoAttack, s",
    "adversarial images that fool PyTorch too",
]


def table(folder: str, experiment) -> str:
    """Markdown table of a dataset's rows that AutoAttack attacked on all images of the suite.

    Args:
      folder: a dataset's, beside robustness/.
      experiment: the dataset's.

    Raises:
      EmpirError: if a record lacks what the table needs, or has another name than it says.
    """
    base = os.path.join(os.path.dirname(folder), "robustness")
    made = [HEADS]
    for row in rows.suites(base, experiment.dataset):
        known, record = row.figures(), row.autoattack()
        if record is None or known.autoattack is None:
            continue
        suite, found = known.record, record.get("transferred")
        cells = [rows.KINDS[row.kind], row.rule or "", rows.ball(row.radius), images(suite)]
        left = suite["worst_case_accuracy"]
        cells += [percent(left), percent(known.autoattack), _both(row, left, record)]
        cells.append(f"{100 * (left - known.autoattack):+.2f}")
        # Of the attacks that the suite's accuracy is of: the curves' and controls' are not.
        own = [trial for trial in suite["trials"] if trial["part"] == "suite"]
        for attacks in (own, record["autoattack"]["attacks"]):
            cells.append(f"{sum(attack['seconds'] for attack in attacks):,.0f}")
        counts = f"{found['adversarial']:,} of {found['images']:,}" if found else "not kept"
        cells.append(counts)
        made.append(cells)
    return pipe_table(made, "ll")


def _both(row: rows.Row, left: float, record: shapes.Record) -> str:
    """Accuracy if an image is correct only where suite and AutoAttack both fail; "" if unknown.

    Args:
      row: of both records.
      left: accuracy that the suite leaves.
      record: AutoAttack's. Older ones do not say which images it left, but how many it alone took
        of those that the suite's record at that time left.
    """
    outcomes, found = record["autoattack"].get("correct"), row.images()
    if outcomes and found is not None:
        correct = np.unpackbits(np.frombuffer(bytes.fromhex(outcomes), np.uint8))
        return percent(float((found.correct & correct[: len(found.correct)]).mean()))
    if record["suite_accuracy"] != left:
        return ""
    return percent(left - record["autoattack"]["broken_by_it_alone"] / record["images"])
