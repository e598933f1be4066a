"""The README's table: accuracy of the ensembles under the paper's attacks and adaptive ones.

Its caption, which names the decision rule, the images and the protocols, is made from the records
too.
"""

import os

from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.report import shapes
from empir.report.results import chosen
from empir.report.robustness import KINDS, percent
from empir.report.tables import pipe_table

#: Each dataset's radii as in the names of the files: a small one, and the paper's.
SHOWN = (("mnist", ("0.1", "0.3")), ("cifar10", ("2-255", "0.1")))
HEADS = (
    "dataset, radius",
    "network",
    "clean",
    "PGD, protocol paper",
    "PGD, protocol whitebox",
    "adaptive suite",
    "95 % interval",
)
RULES = {
    "mean_logits": "the class with the largest mean logit",
    "mean_probs": "the class with the largest mean probability",
    "vote": "the majority's class",
}


def table(folder: str, _) -> str:
    """Markdown table, with its caption, of the records in robustness/ beside `folder`.

    Args:
      folder: any folder beside `robustness`, e.g. results/all.

    Raises:
      EmpirError: if the records differ in their decision rule, norm or images, which the caption
        states for all of them.
    """
    base = os.path.join(os.path.dirname(folder), "robustness")
    rows, said = [], set()
    for dataset, radii in SHOWN:
        for radius in radii:
            for kind in ("ensemble", "baseline"):
                path = os.path.join(base, "%s-%s-%s.json" % (dataset, kind, radius))
                record = shapes.read(path, shapes.ROBUSTNESS)
                if record["norm"] != "linf":
                    raise EmpirError("%s is not about L-infinity, as the caption says" % path)
                said.add((record["combine"], record["num_examples"], chosen(record["data"])))
                rows.append(_row(base, dataset, kind, radius, record))
    if len(said) != 1:
        raise EmpirError(f"{base}: the records differ in their decision rule or images")
    return _caption(*said.pop()) + "\n\n" + pipe_table([HEADS, *rows], "ll")


def _caption(rule, images, choice):
    return (
        f"Accuracy in percent on {images:,} test images, {choice}; radii are L-infinity. EMPIR is "
        "the shipped ensemble, and its baseline is its full-precision member alone. The decision "
        f"rule is `{rule}` ({RULES[rule]}), except in the column of the protocol `paper`, where "
        "the members vote. The interval is that of the adaptive suite, over images."
    )


def _row(base, dataset, kind, radius, record):
    attacked = []
    for protocol in ("paper", "whitebox"):
        # For a single network the two protocols are the same, and there is one record.
        name = "whitebox" if kind == "baseline" else protocol
        path = os.path.join(base, "pgd", "%s-%s-%s-%s.json" % (dataset, kind, radius, name))
        attacked.append(percent(shapes.read(path, shapes.RESULT)["adversarial_accuracy"]))
    return [
        "%s, %s" % (EXPERIMENTS[dataset].title, radius.replace("-", "/")),
        KINDS[kind],
        percent(record["clean_accuracy"]),
        *attacked,
        "**%s**" % percent(record["worst_case_accuracy"]),
        "%s to %s" % tuple(map(percent, record["interval"])),
    ]
