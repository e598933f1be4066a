"""The project's main finding as a short table: what adaptive attacks leave of an ensemble.

It is the table at the head of the README. Its caption, which is made from the records too, names
the decision rule, the images and the protocols.
"""

import os

from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.report import shapes
from empir.report.robustness import KINDS, percent

#: Dataset, and its radii as file names write them: a small one, and the paper's.
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
      EmpirError: if the records differ in what one caption says of all of them: the decision rule,
        the norm, and the number of images.
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
                said.add((record["combine"], record["num_examples"]))
                rows.append(_row(base, dataset, kind, radius, record))
    if len(said) != 1:
        raise EmpirError("%s: the records differ in decision rule or number of images" % base)
    rule, images = said.pop()
    lines = ["| %s |" % " | ".join(HEADS), "| --- | --- |" + " ---: |" * (len(HEADS) - 2)]
    lines += ["| %s |" % " | ".join(row) for row in rows]
    return "\n".join([_caption(rule, images), ""] + lines)


def _caption(rule, images):
    return (
        "Accuracy in percent on the first {:,} test images; radii are L-infinity. EMPIR is the "
        "shipped ensemble, and its baseline is its full-precision member alone. The decision rule "
        "is `{}` ({}), except in the column of the protocol `paper`, where the members vote. The "
        "interval is that of the adaptive suite, over images.".format(images, rule, RULES[rule])
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
