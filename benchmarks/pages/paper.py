"""Markdown tables of the paper's attacks: measured beside reported, by member, rule and epoch."""

import os
from typing import Dict, List, Tuple

import numpy as np

from benchmarks.pages.shapes import TRAINING
from empir import published
from empir.errors import EmpirError
from empir.experiments import TABLE_ATTACKS, Experiment
from empir.report import shapes
from empir.report.results import ROWS, Row, paper_row, row_records
from empir.report.tables import COLUMNS, HEADS, pipe_table, table_rows


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


def still_correct(folder: str, row: Row, attack: str) -> Tuple[np.ndarray, np.ndarray]:
    """Which images are correct after an attack, and which are correct before it too; bool [n].

    Args:
      folder: folder of a dataset's records.
      row, attack: a finished evaluation with its examples.npz.

    Raises:
      EmpirError: if examples.npz is missing or damaged.
    """
    path = os.path.join(folder, row.folder, attack)
    combine = shapes.read(os.path.join(path, "result.json"), shapes.RESULT)["combine"]
    path = os.path.join(path, "examples.npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            clean, adversarial = (
                archive["%s_%s" % (name, combine)] == archive["label"]
                for name in ("clean", "adversarial")
            )
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for a damaged file
        raise EmpirError("%s is unreadable: %s" % (path, " ".join(str(error).split())))
    return adversarial, clean & adversarial


def released_members(dataset: str) -> Dict[str, float]:
    """Clean accuracy in percent of each released member, by our name of it; {} where unknown."""
    return published.paper()["members"].get(dataset, {}).get("clean", {})


def epoch_accuracies(folder: str, experiment: Experiment) -> Dict[str, List[float]]:
    """Test accuracy in percent after each epoch of a long training: member -> list.

    Args:
      folder: of a dataset's records; its `epochs/<member>.json` are the training.json of trainings
        with --test.
      experiment: names the members.
    """
    return {
        name: [
            100 * epoch["test_accuracy"]
            for epoch in shapes.read(os.path.join(folder, "epochs", name + ".json"), TRAINING)[
                "history"
            ]
        ]
        for name, _ in experiment.members
    }


def epoch_distances(accuracies: Dict[str, List[float]], released: Dict[str, float]) -> List[float]:
    """After each epoch, the sum over members of |accuracy - released accuracy|, in points."""
    return [
        sum(abs(accuracy - released[name]) for name, accuracy in zip(accuracies, at_epoch))
        for at_epoch in zip(*accuracies.values())
    ]
