"""Reads records and the paper's figures, and computes the numbers of the tables' rows."""

import os
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import numpy as np

from empir.data import subsets
from empir.errors import EmpirError
from empir.evaluation.scores import Score, score
from empir.experiments import TABLE_ATTACKS, Experiment
from empir.published import paper
from empir.report import shapes
from empir.runtime import ROOT

RESULTS = os.path.join(ROOT, "results")


@dataclass(frozen=True)
class Row:
    """One row of the table: a model under a protocol.

    The baseline is one network, for which the two protocols are the same, so it has one row.
    """

    model: str
    protocol: str
    title: str

    @property
    def folder(self) -> str:
        """The folder of its records below results/<dataset>/."""
        return self.model if self.model == "baseline" else "%s-%s" % (self.model, self.protocol)


ROWS = (
    Row("baseline", "paper", "full-precision baseline, both protocols"),
    Row("empir", "paper", "EMPIR, protocol paper"),
    Row("empir", "whitebox", "EMPIR, protocol whitebox"),
)


def load_record(folder: str) -> Optional[dict]:
    """The record of a finished evaluation in `folder`, or None."""
    path = os.path.join(folder, "result.json")
    if not os.path.exists(path):
        return None
    return shapes.read(path, shapes.RESULT)


def chosen(data: dict) -> str:
    """How the evaluated images were chosen, in words, from the `data` of a record."""
    stratified = data.get("subset") == subsets.STRATIFIED
    return "drawn at random with each class's share" if stratified else "the first ones"


def row_records(folder: str, row: Row) -> Dict[str, dict]:
    """Records of a row's finished attacks: attack -> record."""
    records = {a: load_record(os.path.join(folder, row.folder, a)) for a in TABLE_ATTACKS}
    return {attack: record for attack, record in records.items() if record is not None}


def row_scores(records: Dict[str, dict]) -> Dict[str, Score]:
    """Scores of a row per attack, and "clean", which is of the record with the most examples."""
    if not records:
        return {}
    largest = max(records.values(), key=lambda record: record["num_examples"])
    scores = {"clean": score(largest["clean_accuracy"], largest["num_examples"])}
    for attack, record in records.items():
        scores[attack] = score(record["adversarial_accuracy"], record["num_examples"])
    return scores


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


def average(scores: Dict[str, Score]) -> Optional[float]:
    """Plain mean of the four attack columns in percent, or None if one is missing.

    The paper averages so (docs/original.md, Paper).
    """
    if any(attack not in scores for attack in TABLE_ATTACKS):
        return None
    return sum(scores[attack].percent for attack in TABLE_ATTACKS) / len(TABLE_ATTACKS)


def paper_row(dataset: str, model: str) -> Dict[str, float]:
    """The paper's figures of a row in percent: clean, per attack, average."""
    return paper()["rows"][dataset][model]


def paper_overhead() -> float:
    """Percent that the paper says the ensemble's compute and memory overhead is below."""
    return paper()["overhead"]["below"]


def released_members(dataset: str) -> Dict[str, float]:
    """Clean accuracy in percent of each released member, by our name of it; {} where unknown."""
    return paper()["members"].get(dataset, {}).get("clean", {})


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
            for epoch in shapes.read(
                os.path.join(folder, "epochs", name + ".json"), shapes.TRAINING
            )["history"]
        ]
        for name, _ in experiment.members
    }


def epoch_distances(accuracies: Dict[str, List[float]], released: Dict[str, float]) -> List[float]:
    """After each epoch, the sum over members of |accuracy - released accuracy|, in points."""
    return [
        sum(abs(accuracy - released[name]) for name, accuracy in zip(accuracies, at_epoch))
        for at_epoch in zip(*accuracies.values())
    ]
