"""The paper's table, measured beside reported, as text for a terminal and as Markdown."""

import os
from typing import List

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

COLUMNS = ("clean",) + TABLE_ATTACKS + ("average",)
HEADS = dict(clean="clean", cw="CW", fgsm="FGSM", bim="BIM", pgd="PGD", average="average")


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


def _images(notes, all_images):
    counts = {}
    for examples in notes:
        for column, count in examples.items():
            counts.setdefault(count, []).append(HEADS[column])
    parts = [
        "%s: first %d test images" % (", ".join(h for h in HEADS.values() if h in columns), count)
        for count, columns in sorted(counts.items(), reverse=True)
    ]
    return "; ".join(parts) + ". The paper's figures are for all {:,}.".format(all_images)


def markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table: measured, 95 % Wilson interval, the paper's figure and the difference.

    Of a dataset without records, the paper's figures, said not to be measured here.
    """
    lines = [
        "| model, protocol | | " + " | ".join(HEADS[column] for column in COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * len(COLUMNS),
    ]
    for row, scores, mean, paper in table_rows(folder, experiment):
        measured, interval, difference = [], [], []
        for column in COLUMNS:
            entry = scores.get(column)
            value = mean if column == "average" else getattr(entry, "percent", None)
            measured.append("-" if value is None else "**%.2f**" % value)
            interval.append("%.2f to %.2f" % entry.interval if entry else "")
            difference.append("-" if value is None else "%+.2f" % (value - paper[column]))
        examples = {score.examples for score in scores.values()}
        images = "%s images" % "/".join("{:,}".format(n) for n in sorted(examples))
        for title, kind, cells in (
            ("%s (%s)" % (row.title, images), "measured", measured),
            ("", "95 % interval", interval),
            ("", "paper", ["%.2f" % paper[column] for column in COLUMNS]),
            ("", "difference", difference),
        ):
            lines.append("| %s | %s | %s |" % (title, kind, " | ".join(cells)))
    if len(lines) == 2:
        for row in ROWS:
            if row.protocol == "paper":
                paper = paper_row(experiment.dataset, row.model)
                cells = ["%.2f" % paper[column] for column in COLUMNS]
                lines.append("| %s | measured | not measured here |%s" % (row.title, " |" * 5))
                lines.append("| | paper | %s |" % " | ".join(cells))
    return "\n".join(lines)


def member_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table of each member alone and of every rule, on the same adversarial images."""
    names = [name for name, _ in experiment.members]
    rules = ("vote", "mean_logits", "mean_probs")
    lines = [
        "| images of | attack | " + " | ".join(rules) + " | " + " | ".join(names) + " | mean L2 |",
        "| --- | --- |" + " ---: |" * (len(rules) + len(names) + 1),
    ]
    for row in ROWS:
        if row.model == "baseline":
            continue
        records = row_records(folder, row)
        for attack, record in records.items():
            cells = [100 * record["accuracy"][rule]["adversarial"] for rule in rules]
            cells += [100 * member["adversarial"] for member in record["member_accuracy"]]
            lines.append(
                "| %s | %s | %s | %.2f |"
                % (
                    row.title,
                    HEADS[attack],
                    " | ".join("%.2f" % c for c in cells),
                    record["mean_l2"],
                )
            )
        if records:
            record = next(iter(records.values()))
            cells = [100 * record["accuracy"][rule]["clean"] for rule in rules]
            cells += [100 * member["clean"] for member in record["member_accuracy"]]
            if row.protocol == "paper":
                lines.insert(2, "| clean | | %s | 0 |" % " | ".join("%.2f" % c for c in cells))
    released = released_members(experiment.dataset)
    if released:
        cells = ["%.2f" % paper_row(experiment.dataset, "empir")["clean"], "", ""]
        cells += ["%.2f" % released[name] for name in names]
        lines.insert(3, "| clean | the authors' members | %s | |" % " | ".join(cells))
    return "\n".join(lines)


def cost_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table of what each evaluation cost, from its record."""
    lines = [
        "| images of | attack | graph, s | attack, s per 100 images | peak memory, MB |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in ROWS:
        for attack, record in row_records(folder, row).items():
            seconds = record["seconds"]
            lines.append(
                "| %s | %s | %.1f | %.2f | %.0f |"
                % (
                    row.title,
                    HEADS[attack],
                    seconds["build"],
                    100 * seconds["attack"] / record["num_examples"],
                    record["peak_memory_mb"],
                )
            )
    return "\n".join(lines)


def epochs_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table: the members' test accuracy by number of epochs, beside the released ones'.

    Shown are every fifth epoch, the original's default, and (bold) the closest of all.
    """
    accuracies = epoch_accuracies(folder, experiment)
    released = released_members(experiment.dataset)
    distances = epoch_distances(accuracies, released)
    closest = 1 + distances.index(min(distances))
    shown = {experiment.nb_epochs, closest, *range(5, len(distances) + 1, 5)}
    shown = sorted(epoch for epoch in shown if epoch <= len(distances))
    lines = [
        "| epochs | " + " | ".join(accuracies) + " | sum of distances |",
        "| ---: |" + " ---: |" * (len(accuracies) + 1),
    ]
    for epoch in shown:
        cells = ["%d" % epoch] + ["%.2f" % values[epoch - 1] for values in accuracies.values()]
        cells.append("%.2f" % distances[epoch - 1])
        lines.append("| %s |" % " | ".join("**%s**" % c if epoch == closest else c for c in cells))
    cells = ["the authors' members"] + ["%.2f" % released[name] for name in accuracies]
    return "\n".join(lines + ["| %s | |" % " | ".join(cells)])


def survivors_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table: adversarial accuracy, and what of it was correct before the attack."""
    heads = [HEADS[attack] for attack in TABLE_ATTACKS]
    lines = [
        "| model, protocol | correct | " + " | ".join(heads) + " |",
        "| --- | --- |" + " ---: |" * len(heads),
    ]
    for row in ROWS:
        records = row_records(folder, row)
        pairs = [still_correct(folder, row, a) if a in records else None for a in TABLE_ATTACKS]
        for title, kind, index in (
            (row.title, "after the attack", 0),
            ("", "before and after it", 1),
        ):
            cells = ["-" if pair is None else "%.2f" % pair[index] for pair in pairs]
            lines.append("| %s | %s | %s |" % (title, kind, " | ".join(cells)))
    return "\n".join(lines)


def speed_markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table of what `python -m benchmarks.throughput` measured, beside `folder`."""
    lines = [
        "| attack | batch | images/s | minutes per 1,000 images | GFLOP/s "
        "| matrix products, GFLOP/s | memory, MB |",
        "| --- |" + " ---: |" * 6,
    ]
    for attack in TABLE_ATTACKS:
        name = "%s-%s.json" % (experiment.dataset, attack)
        path = os.path.join(os.path.dirname(folder), "benchmark", name)
        if os.path.exists(path):
            record = shapes.read(path, shapes.THROUGHPUT)
            rate = record["images_per_second"]
            cells = (HEADS[attack], record["batch_size"], rate, 1000 / rate / 60)
            cells += (record["gflops"], record["gemm_gflops"], record["peak_memory_mb"])
            lines.append("| %s | %d | %.2f | %.1f | %.0f | %.0f | %.0f |" % cells)
    return "\n".join(lines)
