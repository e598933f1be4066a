"""Writes the tables and figures of README.md and docs/ at their markers, or checks them."""

import glob
import logging
import os
import re

from benchmarks.pages import (
    autoattack,
    cluster,
    cost,
    defenses,
    finding,
    flips,
    inference,
    machines,
    paired,
    paper,
    prose,
    radius,
    scale,
    speed,
    study,
    suite_time,
    suites,
    trainings,
)
from empir import published
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.records.runs import write_atomically
from empir.report import checks, rows
from empir.runtime import ROOT

log = logging.getLogger("empir")

RESULTS = os.path.join(ROOT, "results")

TABLES = {
    "finding": finding.table,
    "results": paper.markdown,
    "members": paper.member_markdown,
    "cost": paper.cost_markdown,
    "epochs": paper.epochs_markdown,
    "survivors": paper.survivors_markdown,
    "speed": speed.throughput_markdown,
    "attacks": speed.attacks_markdown,
    "batches": speed.batches_markdown,
    "training": speed.training_markdown,
    "startup": speed.startup_markdown,
    "account": speed.account_markdown,
    "one_image": speed.one_image_markdown,
    "bounds": speed.bounds_markdown,
    "overhead": cost.markdown,
    "measured_overhead": inference.overheads,
    "measured_time": inference.milliseconds,
    "measured_memory": inference.memory,
    "measured": inference.sentence,
    "machines": machines.markdown,
    "workers": cluster.measured,
    "scaling": cluster.predicted,
    "scale": scale.markdown,
    "suite_time": suite_time.markdown,
    "defenses": defenses.markdown,
    "robustness": suites.markdown,
    "flips": flips.markdown,
    "paired": paired.suites,
    "paired_attacks": paired.attacks,
    "outside": autoattack.table,
    "checks": lambda *_: checks.text(),
    "transfer": study.transfer,
    "agreement": study.agreement,
    "zeros": study.zeros,
    "study_seeds": trainings.seeds,
    "study_epochs": trainings.epochs,
    "study_ensembles": trainings.ensembles,
    "study_members": trainings.members,
    "study_precisions": trainings.precisions,
    "study_defences": trainings.defences,
    "study_alexnet": trainings.alexnet,
    "study_progress": trainings.progress,
}
#: A table on a page: its kind, and its dataset.
PATTERN = re.compile(rf"<!-- ({'|'.join(TABLES)}):(\w+) -->.*?<!-- end -->", re.DOTALL)


def pages(root: str = ROOT) -> list:
    """Paths of the Markdown pages that may hold tables: README.md, and all files in docs/."""
    docs = glob.glob(os.path.join(root, "docs", "**", "*.md"), recursive=True)
    return [os.path.join(root, "README.md")] + sorted(docs)


def render(text: str) -> str:
    """A page's text as the records say.

    Every table between `<!-- KIND:DATASET -->` and `<!-- end -->` is made anew, and so is every
    number that `prose` knows the source of.
    """

    def replace(match):
        kind, dataset = match.group(1), match.group(2)
        table = TABLES[kind](os.path.join(RESULTS, dataset), EXPERIMENTS.get(dataset))
        return f"<!-- {kind}:{dataset} -->\n{table}\n<!-- end -->"

    return prose.render(PATTERN.sub(replace, text), RESULTS)


def differences(before: str, after: str) -> list:
    """What differs between two texts of a page: "KIND:DATASET" of tables, sources of figures."""
    pairs = zip(PATTERN.finditer(before), PATTERN.finditer(after))
    tables = ["%s:%s" % old.group(1, 2) for old, new in pairs if old.group() != new.group()]
    return tables + prose.differences(before, after)


def main(argv, root: str = ROOT) -> int:
    """Update or check the pages.

    Args:
      argv: [] or ["--check"].
      root: folder of README.md and docs/.

    Returns:
      The exit status.

    Raises:
      EmpirError: for other arguments, or a record that is not what its images say (`rows.check`).
    """
    if argv not in ([], ["--check"]):
        raise EmpirError("usage: python -m benchmarks.pages [--check]")
    published.require_clone("python -m benchmarks.pages")
    rows.check(os.path.join(RESULTS, "robustness"))
    stale = 0
    for path in pages(root):
        with open(path, encoding="utf8") as file:
            before = file.read()
        after = render(before)
        if argv == ["--check"]:
            found = ", ".join(differences(before, after))
            if found:
                name = os.path.relpath(path, root)
                log.error(
                    "%s is not of the records in %s: run python -m benchmarks.pages", name, found
                )
                stale += 1
        elif after != before:
            write_atomically(path, after)
    if argv == ["--check"]:
        return int(stale > 0)
    _plot()
    return 0


def _plot():
    """Draw the figures that the pages show."""
    folder = os.path.join(RESULTS, "mnist")
    if inference.load(folder):
        inference.plot(folder, os.path.join(RESULTS, "inference.svg"))
    if speed.load(folder):
        speed.plot(folder, os.path.join(RESULTS, "benchmark", "attacks.svg"))
    folder = os.path.join(RESULTS, "robustness")
    shown = [EXPERIMENTS[dataset] for dataset in ("mnist", "cifar10")]
    if os.path.isdir(folder):
        radius.plot(folder, shown, os.path.join(folder, "radius.svg"))
    folder = os.path.join(RESULTS, "study", "gradients")
    if os.path.isdir(folder):
        study.plot(study.draw, folder, shown, os.path.join(RESULTS, "study", "transfer.svg"))
        study.plot(
            study.draw_targets, RESULTS, shown, os.path.join(RESULTS, "study", "targets.svg")
        )
