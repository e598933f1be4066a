"""Reads records and the paper's figures, and computes the numbers of the tables' rows."""

import os
from dataclasses import dataclass
from typing import Dict, Optional

from empir.data import subsets
from empir.evaluation.scores import Score, score
from empir.experiments import TABLE_ATTACKS
from empir.published import paper
from empir.report import shapes


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
