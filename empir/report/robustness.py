"""Reports of `python -m empir.robustness`, for a terminal and as Markdown."""

import glob
import os

from empir.precision import Precision
from empir.report.tables import aligned
from empir.runs import read_json

HEADS = ("attack", "climbs", "images", "broken", "its accuracy, %", "worst case so far, %", "s")


def _rows(record):
    """A row of cells per trial, the clean images' first."""
    count = record["num_examples"]
    yield ["clean", "", str(count), "", "%.2f" % (100 * record["clean_accuracy"]), "", ""]
    for trial in record["trials"]:
        words = [trial["goal"]] if trial["goal"] else []
        if trial["rounds"] > 1:
            words.append("%d %s" % (trial["rounds"], "classes" if trial["targeted"] else "starts"))
        alone = "" if trial["accuracy"] is None else "%.2f" % (100 * trial["accuracy"])
        name = "%s, %d steps" % (trial["name"], trial["steps"])
        cells = [name if trial["steps"] > 1 else trial["name"], ", ".join(words)]
        cells += ["%d" % trial["attacked"], "%d" % trial["broken"], alone]
        yield cells + ["%.2f" % (100 * trial["worst_case"]), "%.0f" % trial["seconds"]]


def _verdict(record):
    count = len(record["members"])
    low, high = (100 * limit for limit in record["interval"])
    return (
        "%s, %s: worst case %.2f %% (95 %% interval %.2f to %.2f) of %d images at %s "
        "radius %g; clean %.2f %%"
        % (
            record["architecture"],
            "one network" if count == 1 else "%d members, %s" % (count, record["combine"]),
            100 * record["worst_case_accuracy"],
            low,
            high,
            record["num_examples"],
            {"linf": "L-infinity", "l2": "L2"}[record["norm"]],
            record["eps"],
            100 * record["clean_accuracy"],
        )
    )


def terminal(record: dict) -> str:
    """The record of `robustness.suite.run` as an aligned table."""
    return "\n".join(aligned([list(HEADS)] + list(_rows(record))) + ["", _verdict(record)])


def markdown(record: dict) -> str:
    """The record as a Markdown page."""
    lines = ["# Robustness", "", _verdict(record) + ".", ""]
    lines += ["| %s |" % " | ".join(HEADS), "| --- | --- |" + " ---: |" * (len(HEADS) - 2)]
    lines += ["| %s |" % " | ".join(row) for row in _rows(record)]
    lines += [
        "",
        "Attacks without an accuracy of their own saw only the images that all before them",
    ]
    lines += ["left correct. Command: `%s`." % record["command"]]
    return "\n".join(lines)


def summary(folder: str, _) -> str:
    """Markdown table of the records robustness/*.json beside `folder`, a dataset's results."""
    lines = [
        "| members | of | L-infinity radius | images | clean | noise | FGSM "
        "| APGD, cross-entropy | worst case of all | 95 % interval |",
        "| --- | --- |" + " ---: |" * 8,
    ]
    for path in sorted(glob.glob(os.path.join(os.path.dirname(folder), "robustness", "*.json"))):
        record = read_json(path)
        alone = {trial["name"]: trial["accuracy"] for trial in record["trials"]}
        members = ", ".join(_bits(member) for member in record["members"])
        folders = sorted({os.path.dirname(member["path"]) for member in record["members"]})
        cells = ["`%s`" % "`, `".join(folders), members, "%.4g" % record["eps"]]
        cells += ["{:,}".format(record["num_examples"]), _percent(record["clean_accuracy"])]
        cells += [_percent(alone[name]) for name in ("noise", "fgsm", "apgd-ce")]
        cells += ["**%s**" % _percent(record["worst_case_accuracy"])]
        cells += ["%s to %s" % tuple(map(_percent, record["interval"]))]
        lines.append("| %s |" % " | ".join(cells))
    return "\n".join(lines)


def _percent(fraction):
    return "%.2f" % (100 * fraction)


def _bits(member):
    bits = (member["weight_bits"], member["activation_bits"])
    if isinstance(bits[0], list):
        return "/".join(str(Precision(*pair)) for pair in zip(*bits))
    return str(Precision(*bits))
