"""Table of other defenses, alone and combined with EMPIR (scripts/reproduce_defenses.sh)."""

import os

from empir.experiments import Experiment
from empir.report.results import ROWS, average, row_records, row_scores
from empir.report.tables import COLUMNS, HEADS, pipe_table

#: Name of a defense by the folder of its records.
TITLES = {
    "none": "none",
    "fgsm": "FGSM adversarial training",
    "pgd": "PGD adversarial training",
    "distill": "defensive distillation",
    "inpgradreg": "input-gradient regularisation",
}
MODELS = {"baseline": "one network", "empir": "EMPIR"}


def markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table: accuracy in percent of a network and an ensemble trained by each defense.

    The records are in defenses/<dataset>/<defense> beside `folder`, which holds the dataset's
    records. A defense without records has no row.
    """
    base = os.path.join(os.path.dirname(folder), "defenses", experiment.dataset)
    rows = [["training", "model", *HEADS.values()]]
    for name, title in TITLES.items():
        for row in ROWS:
            scores = row_scores(row_records(os.path.join(base, name), row))
            if not scores:
                continue
            model = MODELS[row.model]
            if row.model != "baseline":
                model += ", " + row.protocol
            percents = {column: score.percent for column, score in scores.items()}
            mean = average(scores)
            if mean is not None:
                percents["average"] = mean
            cells = [f"{percents[c]:.1f}" if c in percents else "-" for c in COLUMNS]
            rows.append([title, model, *cells])
            title = ""
    return pipe_table(rows, "ll")
