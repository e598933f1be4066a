"""Reports of `empir robustness`, for a terminal, as Markdown, and as a page."""

import glob
import os
from typing import Iterator, Optional

import numpy as np

from empir.data import Dataset
from empir.errors import EmpirError
from empir.experiments import Experiment
from empir.records import runs
from empir.report import escape, networks, shapes
from empir.report.results import paper_row
from empir.report.tables import aligned

#: Norms of records in words.
NORMS = {"linf": "L-infinity", "l2": "L2"}
#: How many images the page shows.
SHOWN = 8
CURVES = {
    "radius": ("Accuracy against radius", "radius", "accuracy, %"),
    "steps": ("Accuracy against iterations of Auto-PGD", "iterations", "accuracy, %"),
    "restarts": ("Accuracy against random starts of Auto-PGD", "starts", "accuracy, %"),
    "distortion": ("CW: images broken within an L2 distance", "L2 distance", "images, %"),
}
#: Of `summary`'s files, in its order.
KINDS = {
    "ensemble": "EMPIR",
    "baseline": "full-precision baseline",
    "distilled": "distilled network",
    "pgd": "EMPIR, members trained on PGD",
}
#: How errors call a record that they were given, as no file holds it yet.
RECORD = "the record"
#: Points of a curve that tables show.
QUANTILES = 10

HEADS = ("attack", "climbs", "images", "broken", "its accuracy, %", "worst case so far, %", "s")


def _rows(record):
    """A row of cells per trial, the clean images' first."""
    count = record["num_examples"]
    yield ["clean", "", str(count), "", "%.2f" % (100 * record["clean_accuracy"]), "", ""]
    for trial in record["trials"]:
        if trial["part"] not in ("suite", "control"):
            continue
        words = [trial["goal"]] if trial["goal"] else []
        if trial["rounds"] > 1:
            words.append("%d %s" % (trial["rounds"], "classes" if trial["targeted"] else "starts"))
        alone = "" if trial["accuracy"] is None else "%.2f" % (100 * trial["accuracy"])
        name = "%s, %d steps" % (trial["name"], trial["steps"])
        cells = [name if trial["steps"] > 1 else trial["name"], ", ".join(words)]
        seen = ["%d" % trial["attacked"], "%d" % trial["broken"]]
        cells += (seen if trial["attacked"] else ["none left", ""]) + [alone]
        yield cells + ["%.2f" % (100 * trial["worst_case"]), "%.0f" % trial["seconds"]]


def _finding(record):
    several = len(record["members"]) > 1
    low, high = (100 * limit for limit in record["interval"])
    return (
        "%s, %s: worst case %.2f %% (95 %% interval %.2f to %.2f) of %d images at %s "
        "radius %g; clean %.2f %%"
        % (
            networks.title(record),
            record["combine"] if several else "one network",
            100 * record["worst_case_accuracy"],
            low,
            high,
            record["num_examples"],
            NORMS[record["norm"]],
            record["eps"],
            100 * record["clean_accuracy"],
        )
    )


def terminal(record: dict) -> str:
    """The record of `robustness.suite.run` as an aligned table, and how its checks ended."""
    record = shapes.checked(record, shapes.ROBUSTNESS, RECORD)
    lines = aligned([list(HEADS)] + list(_rows(record)))
    lines += list(_left_out(record)) + [""]
    titles = networks.titles(record["members"])
    several = ["member%d: %s" % pair for pair in enumerate(titles, 1)]
    lines += (several if len(titles) > 1 else ["network: " + titles[0]]) + [""]
    for verdict in record["verdicts"]:
        if not verdict["passed"]:
            what = "not judged" if verdict["passed"] is None else "FAILED"
            words = (what, verdict["title"], verdict["reason"], verdict["see"])
            lines.append("%s: %s. %s See %s" % words)
    passed = sum(verdict["passed"] is True for verdict in record["verdicts"])
    if record["verdicts"] and passed == len(record["verdicts"]):
        lines.append("All %d checks of the attacks passed." % passed)
    return "\n".join(lines + [_finding(record)])


def markdown(record: dict) -> str:
    """The record as a Markdown page."""
    record = shapes.checked(record, shapes.ROBUSTNESS, RECORD)
    lines = ["# Robustness", "", escape.plain(_finding(record)) + ".", ""]
    if record["verdicts"]:
        lines += ["| verdict | | measured |", "| --- | --- | --- |"]
        lines += [_verdict_row(verdict) for verdict in record["verdicts"]] + [""]
    lines += ["| %s |" % " | ".join(HEADS), "| --- | --- |" + " ---: |" * (len(HEADS) - 2)]
    lines += ["| %s |" % " | ".join(map(escape.plain, row)) for row in _rows(record)]
    lines += [
        "",
        "Attacks without an accuracy of their own saw only the images that all before them",
        "left correct.",
    ]
    if record.get("left_out"):
        lines += ["", *("- " + escape.plain(line) for line in _left_out(record))]
    for name, (title, x, y) in CURVES.items():
        points = _thinned(record["curves"].get(name, ()))
        if points and not any(share for _, share in points):
            ends = (title, x, points[0][0], points[-1][0])
            lines += ["", "%s: no image is left, at %s %.4g to %.4g." % ends]
        elif points:
            lines += ["", "%s:" % title, "", "| %s | %s |" % (x, y), "| ---: | ---: |"]
            lines += ["| %.4g | %.2f |" % (at, 100 * share) for at, share in points]
    lines += ["", "Members:", ""]
    for number, member in enumerate(record["members"], 1):
        path = [escape.code(member["path"])] if member.get("path") else []
        lines.append("%d. %s" % (number, ", ".join(path + [networks.precision(member)])))
    return "\n".join(lines + ["", "Command: %s." % escape.code(record["command"])])


def _left_out(record):
    """A line for each attack that could not be run; records of before have no such list."""
    for attack in record.get("left_out", ()):
        yield "not run: %s: %s" % (attack["attack"], attack["reason"])


def _verdict_row(verdict):
    what = {True: "passed", False: "**failed**", None: "not judged"}[verdict["passed"]]
    title, reason = escape.plain(verdict["title"]), escape.plain(verdict["reason"])
    return "| %s | %s | %s See %s. |" % (
        title,
        what,
        reason,
        escape.code(verdict["see"], cell=True),
    )


def _thinned(points):
    """At most about `QUANTILES` of a curve's points, evenly, the last among them."""
    step = max(1, len(points) // QUANTILES) if len(points) > 2 * QUANTILES else 1
    return points[:-1][step - 1 :: step] + points[-1:] if points else []


def write(outcome, data: Dataset, out: str):
    """Write report.md and report.html of a `robustness.suite.Outcome` into a folder."""
    from empir.report.page import page

    runs.write_atomically(os.path.join(out, "report.md"), markdown(outcome.record) + "\n")
    shown = list(_shown(outcome, data))
    text = page(outcome.record, shown, data.clip_range, data.channels)
    runs.write_atomically(os.path.join(out, "report.html"), text)


def _shown(outcome, data) -> Iterator:
    """The first images that were correct when clean, as the page shows them."""
    from empir.report.page import Shown

    clean = outcome.clean
    rows = np.flatnonzero(clean["decision"] == data.labels)[:SHOWN]
    for row, broken in zip(rows, outcome.broken(rows)):
        broken = broken or {}
        yield Shown(
            row=int(row),
            label=int(data.labels[row]),
            clean=data.images[row],
            clean_decision=int(clean["decision"][row]),
            clean_members=clean["members"][row].tolist(),
            trial=broken.get("trial"),
            adversarial=broken.get("adversarial"),
            decision=int(broken["decision"]) if broken else None,
            members=broken["members"].tolist() if broken else None,
        )


def summary(folder: str, experiment: Experiment) -> str:
    """Markdown table of a dataset's records in robustness/ beside `folder`, its results.

    Files are named DATASET-KIND-RADIUS.json, KIND of `KINDS`; those of PGD under a protocol are
    robustness/pgd/DATASET-KIND-RADIUS-PROTOCOL.json.
    """
    base = os.path.join(os.path.dirname(folder), "robustness")
    lines = [
        "| network | radius | clean | the paper's PGD | PGD, paper | PGD, whitebox "
        "| noise | FGSM | Auto-PGD | adaptive | 95 % interval | verdicts failed |",
        "| --- |" + " ---: |" * 10 + " --- |",
    ]
    rows = []
    for path in glob.glob(os.path.join(base, experiment.dataset + "-*.json")):
        _, kind, *radius = os.path.basename(path)[: -len(".json")].split("-", 2)
        if kind not in KINDS or not radius:
            kinds = ", ".join(KINDS)
            raise EmpirError("%s is not named DATASET-KIND-RADIUS.json, KIND of %s" % (path, kinds))
        record = shapes.read(path, shapes.ROBUSTNESS)
        place = (list(KINDS).index(kind) > 1, record["eps"], list(KINDS).index(kind))
        rows.append((place, _summary_row(base, experiment, kind, radius[0], record)))
    lines += ["| %s |" % " | ".join(cells) for _, cells in sorted(rows)]
    return "\n".join(lines)


def _summary_row(base, experiment, kind, radius, record):
    alone = {trial["name"]: trial["accuracy"] for trial in record["trials"]}
    alone = shapes.Record(alone, record.where + ": trials")
    cells = [KINDS[kind], radius.replace("-", "/"), percent(record["clean_accuracy"])]
    model = {"ensemble": "empir", "baseline": "baseline"}.get(kind)
    told = model and record["eps"] == experiment.eps
    cells.append("%.2f" % paper_row(experiment.dataset, model)["pgd"] if told else "")
    for protocol in ("paper", "whitebox"):
        name = "%s-%s-%s-%s.json" % (experiment.dataset, kind, radius, protocol)
        path = os.path.join(base, "pgd", name)
        here = os.path.exists(path)
        cells.append(percent(_attacked(path)) if here else "")
    cells += [percent(alone[name]) for name in ("noise", "fgsm", "apgd-ce")]
    cells.append("**%s**" % percent(record["worst_case_accuracy"]))
    cells.append("%s to %s" % tuple(map(percent, record["interval"])))
    failed = [verdict["name"] for verdict in record["verdicts"] if verdict["passed"] is False]
    return cells + [", ".join(failed) or ("none" if record["verdicts"] else "-")]


def _attacked(path):
    return shapes.read(path, shapes.RESULT)["adversarial_accuracy"]


def percent(fraction: Optional[float]) -> str:
    """A fraction in percent, without the sign; of None a dash."""
    return "-" if fraction is None else "%.2f" % (100 * fraction)
