"""Reports of `empir robustness`: for a terminal, as Markdown, and as a page."""

import os
from dataclasses import replace
from typing import Iterator, Optional

import numpy as np

from empir.data import Dataset
from empir.records import runs
from empir.report import escape, networks, shapes
from empir.report.curves import CURVES, few
from empir.report.page import SHOWN_PARTS, Shown, page
from empir.report.tables import aligned, pipe_table

#: Norms of records in words.
NORMS = {"linf": "L-infinity", "l2": "L2"}
#: Number of images that the page shows.
SHOWN = 8
#: What errors call a record that is in no file yet.
RECORD = "the record"

HEADS = [
    "attack",
    "view, loss",
    "images",
    "successes",
    "own accuracy, %",
    "worst case so far, %",
    "s",
]


def _rows(record):
    """The cells of `HEADS` for the clean images, and for each attack of the suite and control."""
    count = record["num_examples"]
    yield ["clean", "", str(count), "", percent(record["clean_accuracy"]), "", ""]
    for row in record["trials"]:
        if row["part"] not in SHOWN_PARTS:
            continue
        words = [row["goal"]] if row["goal"] else []
        if row["rounds"] > 1:
            words.append("%d %s" % (row["rounds"], "targets" if row["targeted"] else "starts"))
        yield [
            "%s, %d steps" % (row["name"], row["steps"]) if row["steps"] > 1 else row["name"],
            ", ".join(words),
            str(row["attacked"]) if row["attacked"] else "none remained",
            str(row["broken"]) if row["attacked"] else "",
            "" if row["accuracy"] is None else percent(row["accuracy"]),
            percent(row["worst_case"]),
            "%.0f" % row["seconds"],
        ]


def _finding(record):
    text = (
        "%s, %s: robust accuracy %s %% (95 %% interval %s to %s) of %d images at %s radius %g; "
        "clean %s %%"
    )
    return text % (
        networks.title(record),
        record["combine"] if len(record["members"]) > 1 else "one network",
        percent(record["worst_case_accuracy"]),
        *map(percent, record["interval"]),
        record["num_examples"],
        NORMS[record["norm"]],
        record["eps"],
        percent(record["clean_accuracy"]),
    )


def terminal(record: dict) -> str:
    """The record as an aligned table, its members, and the checks that did not pass.

    Args:
      record: as `empir robustness` leaves it in result.json.

    Raises:
      EmpirError: if a value of the record is missing or of the wrong type.
    """
    record = shapes.checked(record, shapes.ROBUSTNESS, RECORD)
    lines = aligned([HEADS, *_rows(record)])
    lines += list(_left_out(record)) + [""]
    titles = networks.titles(record["members"])
    several = ["member%d: %s" % pair for pair in enumerate(titles, 1)]
    lines += (several if len(titles) > 1 else ["network: " + titles[0]]) + [""]
    checks = record["verdicts"]
    for check in checks:
        if not check["passed"]:
            state = "not judged" if check["passed"] is None else "FAILED"
            lines.append(
                "%s: %s. %s See %s" % (state, check["title"], check["reason"], check["see"])
            )
    if checks and all(check["passed"] for check in checks):
        lines.append("All %d checks of the attacks passed." % len(checks))
    return "\n".join(lines + [_finding(record)])


def markdown(record: dict) -> str:
    """The record as a Markdown page; see `terminal`."""
    record = shapes.checked(record, shapes.ROBUSTNESS, RECORD)
    lines = ["# Robustness", "", escape.plain(_finding(record)) + ".", ""]
    if record["verdicts"]:
        rows = [["check", "result", "measured"], *map(_check_row, record["verdicts"])]
        lines += [pipe_table(rows, "lll"), ""]
    rows = [list(map(escape.plain, row)) for row in _rows(record)]
    lines += [
        pipe_table([HEADS, *rows], "ll"),
        "",
        "An attack without an accuracy of its own attacked only the images that were still",
        "classified correctly after all attacks before it.",
    ]
    if record.get("left_out"):
        lines += ["", *("- " + escape.plain(line) for line in _left_out(record))]
    for part, curve in CURVES.items():
        points = few(record["curves"].get(part, ()))
        along = curve.along.format(norm=NORMS[record["norm"]])
        if points and not any(share for _, share in points):
            ends = ("%.4g" % points[0][0], "%.4g" % points[-1][0])
            lines += ["", "%s: %s" % (curve.title, curve.nothing.format(*ends))]
        elif points:
            rows = [("%.4g" % at, percent(share)) for at, share in points]
            lines += ["", curve.title + ":", "", pipe_table([(along, curve.up), *rows], "")]
    lines += ["", "Members:", ""]
    for number, member in enumerate(record["members"], 1):
        path = [escape.code(member["path"])] if member.get("path") else []
        lines.append("%d. %s" % (number, ", ".join(path + [networks.precision(member)])))
    return "\n".join(lines + ["", "Command: %s." % escape.code(record["command"])])


def _left_out(record):
    """A line for each attack that could not be run; older records have no such list."""
    for attack in record.get("left_out", ()):
        yield "not run: %s: %s" % (attack["attack"], attack["reason"])


def _check_row(check):
    state = {True: "passed", False: "**failed**", None: "not judged"}[check["passed"]]
    see = escape.code(check["see"], cell=True)
    return escape.plain(check["title"]), state, escape.plain(check["reason"]) + " See %s." % see


def write(outcome, data: Dataset, out: str):
    """Write report.md and report.html of an evaluation's outcome on `data` into a folder."""
    runs.write_atomically(os.path.join(out, "report.md"), markdown(outcome.record) + "\n")
    shown = list(_shown(outcome, data))
    text = page(outcome.record, shown, data.clip_range, data.channels)
    runs.write_atomically(os.path.join(out, "report.html"), text)


def _shown(outcome, data) -> Iterator:
    """The first images that are classified correctly without an attack, as the page shows them."""
    clean = outcome.clean
    rows = np.flatnonzero(clean["decision"] == data.labels)[:SHOWN]
    for row, found in zip(rows, outcome.adversarial(rows)):
        image = Shown(
            row=int(row),
            label=int(data.labels[row]),
            clean=data.images[row],
            clean_decision=int(clean["decision"][row]),
            clean_members=clean["members"][row].tolist(),
        )
        if found:
            image = replace(
                image,
                attack=found["attack"],
                adversarial=found["adversarial"],
                decision=int(found["decision"]),
                members=found["members"].tolist(),
            )
        yield image


def percent(fraction: Optional[float]) -> str:
    """A fraction in percent, without the sign; of None a dash."""
    return "-" if fraction is None else "%.2f" % (100 * fraction)
