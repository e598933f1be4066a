"""The records of robustness/ among the results, by the names of their files.

A suite's record is DATASET-KIND-RADIUS.json, with KIND of `KINDS` and "-" for "/" in the radius,
which is of the L-infinity norm; one of the L2 norm has "l2-" in front of it. That of an ensemble
has -RULE after the radius, the decision rule. Beside it, as .npz, is what the suite found on each
image (`evaluation.per_image`). AutoAttack's record has its name, in outside/.
PGD's is pgd/DATASET-KIND-RADIUS-PROTOCOL.json: its images are judged under every rule, and a single
network has the protocol whitebox only, as both are the same for it.
"""

import glob
import os
from dataclasses import dataclass
from typing import List, Optional

from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.report import shapes

#: Kinds of networks in the names, in the order of the tables' rows.
KINDS = {
    "ensemble": "EMPIR",
    "baseline": "full-precision baseline",
    "distilled": "distilled network",
    "pgd": "EMPIR, members trained on PGD",
}
#: Decision rules in the order of the tables' rows, the paper's first.
RULES = {
    "vote": "the majority's class",
    "mean_logits": "the class with the largest mean logit",
    "mean_probs": "the class with the largest mean probability",
}


#: How a radius in the L2 norm begins in names.
L2 = "l2-"


def ball(radius: str) -> str:
    """A radius of a name in words: the norm, if it is not L-infinity, and the number."""
    return f"L2 {number(radius)}" if radius.startswith(L2) else number(radius)


def number(radius: str) -> str:
    """The number in a radius of a name, without the norm."""
    return (radius[len(L2) :] if radius.startswith(L2) else radius).replace("-", "/")


@dataclass(frozen=True)
class Row:
    """A network at a radius under a decision rule, of which there may be records.

    Attributes:
      base: the folder robustness/.
      dataset, kind, radius: as in the names.
      rule: of `RULES`; None of a single network.
    """

    base: str
    dataset: str
    kind: str
    radius: str
    rule: Optional[str] = None

    @property
    def name(self) -> str:
        """Of the suite's record, without its folder and ending."""
        parts = (self.dataset, self.kind, self.radius, self.rule)
        return "-".join(part for part in parts if part)

    @property
    def path(self) -> str:
        """The suite's record."""
        return os.path.join(self.base, self.name + ".json")

    def suite(self) -> Optional[shapes.Record]:
        """The suite's record; None if there is none."""
        return _read(self.path, shapes.ROBUSTNESS)

    def pgd(self, protocol: str) -> Optional[shapes.Record]:
        """The record of PGD under a protocol; None if there is none."""
        protocol = protocol if self.rule else "whitebox"
        name = f"{self.dataset}-{self.kind}-{self.radius}-{protocol}.json"
        return _read(os.path.join(self.base, "pgd", name), shapes.RESULT)

    def autoattack(self) -> Optional[shapes.Record]:
        """The record of AutoAttack; None if there is none."""
        return _read(os.path.join(self.base, "outside", self.name + ".json"), shapes.OUTSIDE)

    def images(self) -> Optional[per_image.Images]:
        """What the suite found on each image; None where that was not kept.

        Raises:
          EmpirError: if it is damaged, or not what the suite's record says.
        """
        path = os.path.join(self.base, self.name + ".npz")
        if not os.path.lexists(path):
            return None
        return per_image.read_of(path, shapes.read(self.path, shapes.ROBUSTNESS))

    def figures(self) -> "Figures":
        """What is known of the images of the suite, or else of PGD."""
        suite, paper, whitebox = self.suite(), self.pgd("paper"), self.pgd("whitebox")
        first = suite or paper or whitebox
        if first is None:
            raise EmpirError(f"{self.base} has no record of {self.name}")
        outside = self.autoattack()
        if outside and outside["images"] < outside["num_examples"]:
            outside = None  # it attacked the first of them only
        paper, whitebox, outside = (
            record if record and record["data"]["sha256"] == first["data"]["sha256"] else None
            for record in (paper, whitebox, outside)
        )
        return Figures(
            record=first,
            clean=first["clean_accuracy"] if suite else self._judged(first, "clean"),
            paper=self._judged(paper, "adversarial") if paper else None,
            whitebox=self._judged(whitebox, "adversarial") if whitebox else None,
            suite=suite,
            autoattack=outside["autoattack"]["accuracy"] if outside else None,
        )

    def _judged(self, record, images):
        """Accuracy on the clean or adversarial images of PGD's record, under the row's rule."""
        return record["accuracy"][self.rule or record["combine"]][images]


@dataclass(frozen=True)
class Figures:
    """Accuracies as fractions of the same images; None where there is no record.

    Attributes:
      record: which says what the images are.
      clean, paper, whitebox: without an attack, and under PGD under either protocol.
      suite: the record of the adaptive suite.
      autoattack: under AutoAttack.
    """

    record: shapes.Record
    clean: float
    paper: Optional[float]
    whitebox: Optional[float]
    suite: Optional[shapes.Record]
    autoattack: Optional[float]


def _read(path, shape):
    return shapes.read(path, shape) if os.path.exists(path) else None


def suites(base: str, dataset: str = "*") -> List[Row]:
    """The rows of which there is a suite's record, in the order of tables: norm, kind, radius.

    Args:
      base: the folder robustness/.
      dataset: name of a dataset; by default of all.

    Raises:
      EmpirError: if a file has another name, or says another rule or norm than its name.
    """
    found = []
    for path in glob.glob(os.path.join(base, dataset + "-*.json")):
        row = _named(path)
        record = shapes.read(path, shapes.ROBUSTNESS)
        if len(record["members"]) > 1 and record["combine"] != row.rule:
            raise EmpirError(f"{path} is of the rule {record['combine']!r}: name it so")
        if (record["norm"] == "l2") != row.radius.startswith(L2):
            raise EmpirError(f"{path} is of the norm {record['norm']!r}: name it so")
        kind = list(KINDS).index(row.kind)
        rule = list(RULES).index(row.rule) if row.rule else 0
        order = (row.dataset, record["norm"] == "l2", kind > 1, record["eps"], kind, rule)
        found.append((order, row))
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def _named(path):
    """The row that the name of a suite's record says."""
    dataset, kind, *radius = os.path.basename(path)[: -len(".json")].split("-", 2)
    if kind not in KINDS or not radius:
        kinds = ", ".join(KINDS)
        raise EmpirError(f"{path} is not named DATASET-KIND-RADIUS[-RULE].json, KIND of {kinds}")
    start, _, rule = radius[0].rpartition("-")
    if start and rule in RULES:
        return Row(os.path.dirname(path), dataset, kind, start, rule)
    return Row(os.path.dirname(path), dataset, kind, radius[0])


def check(base: str) -> int:
    """Check that the suites' records are what was found on their images, where that is kept.

    Returns:
      The number of records that were checked.

    Raises:
      EmpirError: for the first that is not.
    """
    return sum(row.images() is not None for row in suites(base))
