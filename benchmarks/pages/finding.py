"""The README's table: accuracy under each attack, by the ensemble's decision rule.

Its caption, which names the images, the rules, the protocols and the seeds, is made from the
records too.
"""

import os
from dataclasses import replace

from benchmarks.pages.suites import images
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.report.robustness import percent
from empir.report.rows import RULES, Row, ball
from empir.report.tables import pipe_table

#: Each dataset's radii as in the names of the files.
SHOWN = (("mnist", ("0.1", "0.3")), ("cifar10", ("2-255", "8-255")))
SHOWN_RULES = ("vote", "mean_logits")
HEADS = (
    "dataset, radius",
    "decision rule",
    "images",
    "clean",
    "PGD, protocol paper",
    "PGD, protocol whitebox",
    "adaptive suite",
    "95 % interval",
    "AutoAttack",
    "baseline, adaptive suite",
)


def table(folder: str, _) -> str:
    """Markdown table, with its caption, of the records in robustness/ beside `folder`.

    All figures of a row are of the same images. A cell without a record stays empty.

    Args:
      folder: any folder beside `robustness`, e.g. results/all.

    Raises:
      EmpirError: if a record is not about L-infinity, which the caption states for all of them, or
        a row has no record at all.
    """
    base = os.path.join(os.path.dirname(folder), "robustness")
    cells, records = [], []
    for dataset, radii in SHOWN:
        for radius in radii:
            for rule in SHOWN_RULES:
                row = Row(base, dataset, "ensemble", radius, rule)
                known = row.figures()
                records.append(known.record)
                cells.append(_cells(row, known))
    return _caption(records) + "\n\n" + pipe_table([HEADS, *cells], "lll")


def _caption(records):
    seeds = sorted({record["seed"] for record in records})
    drawn = sorted({record["data"]["subset_seed"] for record in records})
    rules = " and ".join(f"`{rule}` ({RULES[rule]})" for rule in SHOWN_RULES)
    return (
        "Accuracy of EMPIR, the shipped ensemble, in percent; radii are L-infinity. The decision "
        f"rule is {rules}. Under each protocol PGD makes one set of images, which every rule "
        "judges. The suite attacks the rule of its row, and the interval is that of its figure, "
        "over images. The baseline is the full-precision member alone. All figures of a row are "
        "of the same test images, drawn at random with each class's share by "
        f"the seed {_listed(drawn)}. The attacks' seed is {_listed(seeds)}. An empty cell has not "
        "been measured on these images."
    )


def _listed(numbers):
    return ", ".join(map(str, numbers))


def _cells(row, known):
    record, suite = known.record, known.suite
    if suite is not None and suite["norm"] != "linf":
        raise EmpirError(f"{row.path} is not about L-infinity, as the caption says")
    alone = replace(row, kind="baseline", rule=None).suite()
    if alone is not None and alone["data"]["sha256"] != record["data"]["sha256"]:
        alone = None
    accuracies = [known.clean, known.paper, known.whitebox]
    accuracies.append(suite and suite["worst_case_accuracy"])
    cells = ["" if each is None else percent(each) for each in accuracies]
    cells[3] = cells[3] and f"**{cells[3]}**"
    cells.append("%s to %s" % tuple(map(percent, suite["interval"])) if suite else "")
    for last in (known.autoattack, alone and alone["worst_case_accuracy"]):
        cells.append("" if last is None else percent(last))
    title = "%s, %s" % (EXPERIMENTS[row.dataset].title, ball(row.radius))
    return [title, f"`{row.rule}`", images(record), *cells]
