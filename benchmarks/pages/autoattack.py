"""The table of the records that `python -m benchmarks.autoattack` wrote, beside the suite's."""

import os

from benchmarks.pages.suites import images
from empir.report import rows
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
        cells += [percent(suite["worst_case_accuracy"]), percent(known.autoattack)]
        alone = record["autoattack"]["broken_by_it_alone"] / record["images"]
        cells.append(percent(suite["worst_case_accuracy"] - alone))
        cells.append(f"{record['stronger_by']:+.2f}")
        # Of the attacks that the suite's accuracy is of: the curves' and controls' are not.
        own = [trial for trial in suite["trials"] if trial["part"] == "suite"]
        for attacks in (own, record["autoattack"]["attacks"]):
            cells.append(f"{sum(attack['seconds'] for attack in attacks):,.0f}")
        counts = f"{found['adversarial']:,} of {found['images']:,}" if found else "not kept"
        cells.append(counts)
        made.append(cells)
    return pipe_table(made, "ll")
