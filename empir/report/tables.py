"""The paper's table, measured beside reported, as text for a terminal and as Markdown."""

import os
from typing import List, Sequence

from empir.experiments import TABLE_ATTACKS, Experiment
from empir.report import shapes
from empir.report.results import (
    ROWS,
    average,
    epoch_accuracies,
    epoch_distances,
    paper_row,
    released_members,
    row_records,
    row_scores,
    still_correct,
)

HEADS = dict(clean="clean", cw="CW", fgsm="FGSM", bim="BIM", pgd="PGD", average="average")
COLUMNS = tuple(HEADS)


def table_rows(folder: str, experiment: Experiment):
    """Each row's title, measured scores, average and paper figures, for the rows with records."""
    for row in ROWS:
        scores = row_scores(row_records(folder, row))
        if scores:
            yield row, scores, average(scores), paper_row(experiment.dataset, row.model)


def terminal(folder: str, experiment: Experiment) -> str:
    """Fixed-width table: measured accuracy in percent, the paper's in brackets."""
    lines = [["%s %s, accuracy in %% (paper's)" % (experiment.title, experiment.architecture)]]
    lines[0] += [HEADS[column] for column in COLUMNS]
    notes = []
    for row, scores, mean, paper in table_rows(folder, experiment):
        cells = [row.title]
        for column in COLUMNS:
            value = mean if column == "average" else getattr(scores.get(column), "percent", None)
            cells.append("-" if value is None else "%.2f (%.2f)" % (value, paper[column]))
        lines.append(cells)
        notes.append({column: score.examples for column, score in scores.items()})
    text = aligned(lines)
    return "\n".join(text + (["", _images(notes, experiment.nb_samples)] if notes else []))


def aligned(rows: List[List[str]]) -> List[str]:
    """Lines of a fixed-width table, the first row its head: first column left, others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])])
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return lines


def pipe_table(rows: Sequence[Sequence[str]], align: str = "l") -> str:
    """A Markdown table.

    Args:
      rows: cells as Markdown, the head's first.
      align: "l" or "r" for each of the first columns, on the left or right; the others are "r".
    """
    rule = [{"l": "---", "r": "---:"}[side] for side in align.ljust(len(rows[0]), "r")]
    return "\n".join("| %s |" % " | ".join(row) for row in (rows[0], rule, *rows[1:]))


def _images(notes, all_images):
    counts = {}
    for examples in notes:
        for column, count in examples.items():
            counts.setdefault(count, []).append(HEADS[column])
    parts = [
        "%s: %d test images" % (", ".join(h for h in HEADS.values() if h in columns), count)
        for count, columns in sorted(counts.items(), reverse=True)
    ]
    return "; ".join(parts) + ". The paper's figures are for all {:,}.".format(all_images)


def markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table: measured, 95 % Wilson interval, the paper's figure and the difference.

    For a dataset without records the table gives the paper's figures, and says that nothing was
    measured here.
    """
    rows = []
    for row, scores, mean, paper in table_rows(folder, experiment):
        values = {column: score.percent for column, score in scores.items()}
        values.update({} if mean is None else {"average": mean})
        examples = sorted({score.examples for score in scores.values()})
        images = "/".join(f"{count:,}" for count in examples)
        limits = {column: "%.2f to %.2f" % score.interval for column, score in scores.items()}
        rows += [
            [f"{row.title} ({images} images)", "measured", *_cells(values, "**%.2f**")],
            ["", "95 % interval", *(limits.get(column, "") for column in COLUMNS)],
            ["", "paper", *_cells(paper, "%.2f")],
            ["", "difference", *_cells({c: v - paper[c] for c, v in values.items()}, "%+.2f")],
        ]
    for row in () if rows else ROWS:
        if row.protocol == "paper":
            rows.append([row.title, "measured", "not measured here"] + [""] * (len(COLUMNS) - 1))
            rows.append(["", "paper", *_cells(paper_row(experiment.dataset, row.model), "%.2f")])
    return pipe_table([["model, protocol", "", *HEADS.values()], *rows], "ll")


def _cells(values, form):
    """A cell for each of `COLUMNS`, a dash where there is no value."""
    return [form % values[column] if column in values else "-" for column in COLUMNS]


def member_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table of each member alone and of every rule, on the same adversarial images."""
    names = [name for name, _ in experiment.members]
    rules = ("vote", "mean_logits", "mean_probs")
    clean, attacked = [], []
    for row in (row for row in ROWS if row.model != "baseline"):
        records = row_records(folder, row)
        for attack, record in records.items():
            scores = _decided(record, rules, "adversarial")
            attacked.append([row.title, HEADS[attack], *scores, "%.2f" % record["mean_l2"]])
        if records and row.protocol == "paper":
            record = next(iter(records.values()))
            clean.append(["clean", "", *_decided(record, rules, "clean"), "0"])
    released = released_members(experiment.dataset)
    if released:
        cells = ["%.2f" % paper_row(experiment.dataset, "empir")["clean"], "", ""]
        cells += ["%.2f" % released[name] for name in names]
        clean.append(["clean", "the authors' members", *cells, ""])
    heads = ["images of", "attack", *rules, *names, "mean L2"]
    return pipe_table([heads, *clean, *attacked], "ll")


def _decided(record, rules, images):
    """Accuracy on clean or adversarial images in percent, of each rule and each member."""
    entries = [record["accuracy"][rule] for rule in rules] + record["member_accuracy"]
    return ["%.2f" % (100 * entry[images]) for entry in entries]


def cost_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table of what each evaluation cost, from its record."""
    rows = [["images of", "attack", "graph, s", "attack, s per 100 images", "peak memory, MB"]]
    for row in ROWS:
        for attack, record in row_records(folder, row).items():
            seconds = record["seconds"]
            per_100 = 100 * seconds["attack"] / record["num_examples"]
            cells = ["%.1f" % seconds["build"], "%.2f" % per_100, "%.0f" % record["peak_memory_mb"]]
            rows.append([row.title, HEADS[attack], *cells])
    return pipe_table(rows, "ll")


def epochs_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table: the members' test accuracy by number of epochs, beside the released ones'.

    The table has every fifth epoch, the original's default, and in bold the closest of all.
    """
    accuracies = epoch_accuracies(folder, experiment)
    released = released_members(experiment.dataset)
    distances = epoch_distances(accuracies, released)
    closest = 1 + distances.index(min(distances))
    shown = {experiment.nb_epochs, closest, *range(5, len(distances) + 1, 5)}
    rows = [["epochs", *accuracies, "sum of distances"]]
    for epoch in sorted(epoch for epoch in shown if epoch <= len(distances)):
        numbers = [values[epoch - 1] for values in [*accuracies.values(), distances]]
        cells = [str(epoch)] + ["%.2f" % number for number in numbers]
        rows.append(["**%s**" % cell if epoch == closest else cell for cell in cells])
    rows.append(["the authors' members", *("%.2f" % released[name] for name in accuracies), ""])
    return pipe_table(rows, "")


def survivors_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table: adversarial accuracy, and its part that is correct without the attack too."""
    rows = [["model, protocol", "correct", *(HEADS[attack] for attack in TABLE_ATTACKS)]]
    for row in ROWS:
        records = row_records(folder, row)
        pairs = [still_correct(folder, row, a) if a in records else None for a in TABLE_ATTACKS]
        for title, kind, index in (
            (row.title, "after the attack", 0),
            ("", "before and after it", 1),
        ):
            cells = ["-" if pair is None else "%.2f" % (100 * pair[index].mean()) for pair in pairs]
            rows.append([title, kind, *cells])
    return pipe_table(rows, "ll")


def speed_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table of what `python -m benchmarks.throughput` measured, beside `folder`."""
    heads = ["attack", "batch", "images/s", "minutes per 1,000 images", "GFLOP/s"]
    rows = [heads + ["matrix products, GFLOP/s", "memory, MB"]]
    for attack in TABLE_ATTACKS:
        name = f"{experiment.dataset}-{attack}.json"
        path = os.path.join(os.path.dirname(folder), "benchmark", name)
        if os.path.exists(path):
            record = shapes.read(path, shapes.THROUGHPUT)
            rate = record["images_per_second"]
            cells = ["%d" % record["batch_size"], "%.2f" % rate, "%.1f" % (1000 / rate / 60)]
            cells += ["%.0f" % record[key] for key in ("gflops", "gemm_gflops", "peak_memory_mb")]
            rows.append([HEADS[attack], *cells])
    return pipe_table(rows)
