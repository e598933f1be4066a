"""Reports of `python -m benchmarks.autoattack`, for a terminal and as Markdown."""

import glob
import os

from empir.nn.precision import Precision
from empir.report import escape, shapes
from empir.report.robustness import NORMS, percent
from empir.report.tables import aligned


def terminal(record: dict) -> str:
    """The record of `robustness.outside.check` in a few lines."""
    auto, rows = record["autoattack"], [["clean", "%d" % record["images"], ""]]
    rows[0].append(percent(record["clean_accuracy"]))
    for attack in auto["attacks"]:
        cells = [attack["name"], "%d" % attack["attacked"], "%.0f" % attack["seconds"]]
        rows.append(cells + [percent(attack["accuracy_after"])])
    rows.append(["the suite", "%d" % record["images"], "", percent(record["suite_accuracy"])])
    lines = aligned([["attack", "images", "s", "left correct, %"]] + rows) + [""]
    lines.append(
        "%s, %s, %d members, %s radius %g, first %d images: %s leaves %s %%, the suite %s %%"
        % (
            record["dataset"],
            record["architecture"],
            len(record["members"]),
            NORMS[record["norm"]],
            record["eps"],
            record["images"],
            auto["package"],
            percent(auto["accuracy"]),
            percent(record["suite_accuracy"]),
        )
    )
    lines.append(_stronger(record["stronger_by"], auto))
    lines.append(_transferred(record) + " adversarial images of the suite fool PyTorch's networks")
    for attack in auto["attacks"]:
        for text, count in sorted(attack["warnings"].items()):
            lines.append("AutoAttack warns, %s, %d times: %s" % (attack["name"], count, text))
    return "\n".join(lines)


def _stronger(points, auto):
    """Which of AutoAttack and the suite leaves fewer images, and how many either broke alone."""
    counts = [("AutoAttack", auto["broken_by_it_alone"])]
    counts += [("the suite", auto["broken_by_suite_alone"])]
    if points < 0:
        counts.reverse()
    (leader, alone), (other, by_other) = counts
    text = "AutoAttack and the suite are equally strong"
    if points:
        text = "%s is stronger by %.2f points" % (leader[0].upper() + leader[1:], abs(points))
        leader = "it"
    return "%s: %d images broken by %s alone, %d by %s alone" % (
        text,
        alone,
        leader,
        by_other,
        other,
    )


def table(folder: str, _) -> str:
    """Markdown table of the records robustness/outside/*.json beside `folder`, a dataset's."""
    lines = [
        "| members | of | norm | radius | images | suite | AutoAttack | difference, points "
        "| adversarial images that fool PyTorch too |",
        "| --- | --- | --- |" + " ---: |" * 6,
    ]
    pattern = os.path.join(os.path.dirname(folder), "robustness", "outside", "*.json")
    for path in sorted(glob.glob(pattern)):
        record = shapes.read(path, shapes.OUTSIDE)
        folders = sorted({os.path.dirname(member["path"]) for member in record["members"]})
        bits = [
            str(Precision(member["weight_bits"], member["activation_bits"]))
            for member in record["members"]
        ]
        cells = [", ".join(escape.code(folder, cell=True) for folder in folders)]
        cells += [", ".join(bits), NORMS[record["norm"]]]
        cells += ["%.4g" % record["eps"], "{:,}".format(record["images"])]
        cells += [percent(record["suite_accuracy"]), percent(record["autoattack"]["accuracy"])]
        cells += ["%+.2f" % record["stronger_by"], _transferred(record)]
        lines.append("| %s |" % " | ".join(cells))
    return "\n".join(lines)


def _transferred(record):
    counts = record["transferred"]
    return "%d of %d" % (counts["adversarial"], counts["images"])
