"""The other defenses beside EMPIR and combined with it (scripts/reproduce_defenses.sh)."""

import os

from empir.experiments import Experiment
from empir.report.results import ROWS, average, row_records, row_scores
from empir.report.tables import COLUMNS, HEADS

#: Folder of a defense's records -> what it is called.
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

    The records are in defenses/<dataset>/<defense> beside `folder`, that of the dataset's records.
    Of a defense without records there is no row.
    """
    base = os.path.join(os.path.dirname(folder), "defenses", experiment.dataset)
    lines = [
        "| training | model | " + " | ".join(HEADS[column] for column in COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * len(COLUMNS),
    ]
    for name, title in TITLES.items():
        for row in ROWS:
            scores = row_scores(row_records(os.path.join(base, name), row))
            if not scores:
                continue
            model = MODELS[row.model]
            if row.model != "baseline":
                model += ", " + row.protocol
            values = {column: score.percent for column, score in scores.items()}
            values["average"] = average(scores)
            cells = ["-" if values.get(c) is None else "%.1f" % values[c] for c in COLUMNS]
            lines.append("| %s | %s | %s |" % (title, model, " | ".join(cells)))
            title = ""
    return "\n".join(lines)
