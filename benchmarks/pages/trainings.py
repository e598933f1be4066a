"""Tables of the study's parts (docs/study.md): several trainings of networks and ensembles.

The records are study/PART/DATASET-SUBJECT-SETTING.json among the results, with what was found on
each image beside them, as `benchmarks.study.plan` names them. A row is shown once all trainings
that it compares have their records.
"""

import itertools
import os
from typing import Dict, List, Optional, Tuple

import numpy as np

from benchmarks.study import plan
from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.evaluation.scores import difference, paired, score
from empir.experiments import EXPERIMENTS, PROTOCOLS, TABLE_ATTACKS, Experiment
from empir.report import rows, shapes
from empir.report.results import paper_row
from empir.report.tables import HEADS, pipe_table, probability

#: Radii of the suites, as in the names.
RADII = {name: tuple(radius for radius, _ in plan.RADII[name]) for name in plan.PAPERS}
#: Subjects of the part `ensembles` that EMPIR is compared with.
SUBJECTS = {
    "three-full": "three full-precision members",
    "three-low": "three members of one low precision",
    "wide": "one full-precision network with as many weights",
}
MISSING = "No row of it is complete yet."
CLEAN = "clean"


class _Part:
    """The records of a part of the study of one dataset."""

    def __init__(self, folder: str, part: str, dataset: str):
        self._base = os.path.join(os.path.dirname(folder), "study", part)
        self._dataset = dataset
        self._numbers: Optional[np.ndarray] = None

    def correct(self, subject: str, setting: str, clean: str = "") -> Optional[np.ndarray]:
        """Which images are correct under an attack or a suite, bool [n]; None without a record.

        `clean`, where it is not empty, is a decision rule, and asks which clean images are correct.

        Raises:
          EmpirError: if the record is damaged, or of other images than another one of the part.
        """
        path = os.path.join(self._base, f"{self._dataset}-{subject}-{setting}")
        if not os.path.exists(path + ".json"):
            return None
        suite = setting[0].isdigit()  # its radius
        record = shapes.read(path + ".json", shapes.ROBUSTNESS if suite else shapes.RESULT)
        images = per_image.read_of(path + ".npz", record)
        self._numbers = images.number if self._numbers is None else self._numbers
        if not np.array_equal(images.number, self._numbers):
            raise EmpirError(f"{path}.npz is of other images than the records beside it")
        if clean:
            return images.clean[clean] == images.label
        return images.correct if suite else ~images.succeeded[images.attacks[0]]

    def runs(self, subject: str, count: int, *what) -> Optional[np.ndarray]:
        """The same of so many trainings, bool [count, n]; None unless all have records."""
        found = [self.correct(f"{subject}-{run}", *what) for run in range(count)]
        return None if any(one is None for one in found) else np.array(found)


def _settings(radii, attacks=TABLE_ATTACKS):
    """Titles of rows; settings of ensembles and of single networks; `clean` as above."""
    yield "clean images, vote", "pgd-whitebox", "pgd-whitebox", "vote"
    for attack, protocol in itertools.product(attacks, ("paper", "whitebox")):
        title = f"{HEADS[attack]}, protocol {protocol}"
        yield title, f"{attack}-{protocol}", f"{attack}-whitebox", ""
    for radius, rule in itertools.product(radii, plan.SUITE_RULES):
        title = f"suite at {rows.ball(radius)}, {rule}"
        yield title, f"{radius}-{rule}", radius, ""


def _spread(correct: np.ndarray) -> str:
    """Mean, standard deviation, and smallest to largest accuracy of trainings, in percent."""
    each = 100 * correct.mean(1)
    return "%.1f, %.1f (%.1f-%.1f)" % (each.mean(), each.std(ddof=1), each.min(), each.max())


def _compared(first: np.ndarray, second: np.ndarray) -> str:
    found = difference(first, second)
    return "%+.1f (%+.1f to %+.1f)" % (found.points, *found.interval)


def seeds(folder: str, experiment: Experiment) -> str:
    """Markdown table: EMPIR and its full-precision member, each trained several times.

    Args:
      folder: any folder beside study/, e.g. results/mnist.
      experiment: the dataset's.
    """
    return _seeds(_Part(folder, "seeds", experiment.dataset), experiment, "")


def epochs(folder: str, experiment: Experiment) -> str:
    """Markdown table: the same of trainings with the original script's number of epochs."""
    return _seeds(_Part(folder, "epochs", experiment.dataset), experiment, "-epochs6")


def _seeds(records, experiment, suffix):
    table = []
    paper = [paper_row(experiment.dataset, model) for model in ("empir", "baseline")]
    for title, ensemble, single, clean in _settings(RADII[experiment.dataset]):
        first = records.runs(f"empir{suffix}", plan.TRAININGS, ensemble, clean)
        second = records.runs(f"baseline{suffix}", plan.TRAININGS, single, clean)
        if first is not None and second is not None:
            column = CLEAN if clean else ensemble.split("-")[0]
            told = " / ".join("%.1f" % row[column] for row in paper if column in row)
            cells = [_spread(first), _spread(second), _compared(first, second), told or "-"]
            table.append([title, *cells])
    heads = ["", "EMPIR", "full-precision member", "difference", "the paper's figures"]
    return pipe_table([heads, *table]) if table else MISSING


def ensembles(folder: str, experiment: Experiment) -> str:
    """Markdown table: EMPIR less ensembles of one precision and a wide network, in points."""
    published, others = (_Part(folder, part, experiment.dataset) for part in ("seeds", "ensembles"))
    table = []
    for title, ensemble, single, clean in _settings(RADII[experiment.dataset][:1], ("pgd",)):
        first = published.runs("empir", plan.COMPARED, ensemble, clean)
        for subject, name in SUBJECTS.items():
            setting = single if subject == "wide" else ensemble
            second = others.runs(subject, plan.COMPARED, setting, clean)
            if first is not None and second is not None:
                compared = _compared(first, second)
                table.append([title, name, _spread(first), _spread(second), compared])
    heads = ["", "compared with EMPIR", "EMPIR", "the other", "difference"]
    return pipe_table([heads, *table], "ll") if table else MISSING


def members(folder: str, experiment: Experiment) -> str:
    """Markdown table: robust accuracy of ensembles of one to seven members of one precision."""
    records, radius = _Part(folder, "members", experiment.dataset), RADII[experiment.dataset][0]
    columns = list(itertools.product(("low", "full"), plan.SUITE_RULES))
    table = []
    for count in range(1, 8):
        settings = [radius if count == 1 else f"{radius}-{rule}" for _, rule in columns]
        found = [
            records.correct(f"{count}-{kind}", setting)
            for (kind, _), setting in zip(columns, settings)
        ]
        if all(one is not None for one in found):
            table.append([str(count), *(_percent(one) for one in found)])
    heads = [f"{kind} precision, {rule}" for kind, rule in columns]
    return pipe_table([["members", *heads], *table]) if table else MISSING


def precisions(folder: str, experiment: Experiment) -> str:
    """Markdown tables: weight bits down, activation bits across; single networks and pairs."""
    records, radius = _Part(folder, "precisions", experiment.dataset), RADII[experiment.dataset][0]
    ball = rows.ball(radius)
    parts: List[Tuple[str, str, str, str]] = [
        ("one network, clean images", "one", "pgd-whitebox", "vote"),
        ("one network, PGD", "one", "pgd-whitebox", ""),
        (f"one network, suite at {ball}", "one", radius, ""),
        (f"two of three members, vote, suite at {ball}", "two", f"{radius}-vote", ""),
        (f"the same, mean_logits, suite at {ball}", "two", f"{radius}-mean_logits", ""),
    ]
    tables = []
    for title, kind, setting, clean in parts:
        grid = [
            [records.correct(f"{kind}-{_bits(w, a)}", setting, clean) for a in plan.BITS]
            for w in plan.BITS
        ]
        if all(one is not None for one in itertools.chain(*grid)):
            heads = [title, *(f"a{bits}" for bits in plan.BITS)]
            lines = [[f"w{bits}", *map(_percent, line)] for bits, line in zip(plan.BITS, grid)]
            tables.append(pipe_table([heads, *lines]))
    return "\n\n".join(tables) or MISSING


def defences(folder: str, experiment: Experiment) -> str:
    """Markdown table: EMPIR and its members after adversarial training, one training of each."""
    records, radius = (
        _Part(folder, "defences", experiment.dataset),
        plan.DEFENDED[experiment.dataset][0],
    )
    singles = [f"model{number}-{bits}" for number, (_, bits) in enumerate(experiment.members, 1)]
    table = []
    for title, ensemble, single, clean in _settings([radius], ("pgd", "cw")):
        found = [records.correct("empir", ensemble, clean)]
        found += [records.correct(subject, single, clean) for subject in singles]
        if all(one is not None for one in found):
            p = probability(paired(found[0], found[-1]).p)
            table.append([title, *map(_percent, found), p])
    heads = ["", "EMPIR", *(str(bits) for _, bits in experiment.members), "p"]
    return pipe_table([heads, *table]) if table else MISSING


def alexnet(folder: str, experiment: Experiment) -> str:
    """Markdown table: AlexNet on CIFAR-10 as JPEGs, its members and EMPIR, with Wilson intervals.

    Args:
      folder: any folder beside study/, e.g. results/imagenet.
      experiment: ImageNet's, for the names of the members.
    """
    records = _Part(folder, "alexnet", plan.PICTURES)
    columns = [(str(bits), name, "whitebox") for name, bits in experiment.members]
    columns += [(f"EMPIR, protocol {each}", "empir", each) for each in ("paper", "whitebox")]
    attacked = [("clean images", "pgd", True)]
    attacked += [(HEADS[attack], attack, False) for attack in TABLE_ATTACKS]
    table = []
    for title, attack, is_clean in attacked:
        found = [
            records.correct(
                subject, f"{attack}-{protocol}", PROTOCOLS[protocol].combine if is_clean else ""
            )
            for _, subject, protocol in columns
        ]
        if all(one is not None for one in found):
            table.append([title, *map(_with_interval, found)])
    heads = ["", *(title for title, _, _ in columns)]
    return pipe_table([heads, *table]) if table else MISSING


def progress(folder: str, _) -> str:
    """Markdown table: how many of each part's planned evaluations have a record.

    Args:
      folder: any folder beside study/, e.g. results/all.
    """
    base, table = os.path.join(os.path.dirname(folder), "study"), []
    for part in plan.PARTS:
        made: Dict[str, List[bool]] = {}
        for one in plan.evaluations(part):
            is_there = os.path.exists(os.path.join(base, part, f"{one.name}.json"))
            made.setdefault(one.dataset, []).append(is_there)
        for dataset, there in made.items():
            shown = EXPERIMENTS[dataset].title if dataset in EXPERIMENTS else "CIFAR-10 as JPEGs"
            table.append([f"`{part}`", shown, str(sum(there)), str(len(there))])
    return pipe_table([["part", "dataset", "evaluations made", "planned"], *table], "ll")


def _with_interval(correct) -> str:
    found = score(float(np.mean(correct)), len(correct))
    return "%.1f (%.1f-%.1f)" % (found.percent, *found.interval)


def _bits(weights, activations):
    return "fp" if weights == activations == plan.BITS[-1] else f"w{weights}a{activations}"


def _percent(correct) -> str:
    return "%.1f" % (100 * np.mean(correct))
