"""The paper's table, measured beside reported, for a terminal; and tables of cells as text."""

from typing import List, Sequence

from empir.experiments import Experiment
from empir.report.results import ROWS, average, paper_row, row_records, row_scores

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


def probability(p: float) -> str:
    """A p-value in words; those that are too small for a float become 0."""
    return f"{p:.2g}" if p > 1e-300 else "below 1e-300"
