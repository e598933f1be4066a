"""Tables of paired comparisons: two evaluations of the same images, by McNemar's exact test.

The intervals of two accuracies overlap where the test, which knows the images, can tell them apart;
and of many comparisons some seem significant by chance. So a table says that one withstands more
only where Holm's procedure over all its rows allows it (S. Holm, A simple sequentially rejective
multiple test procedure, 1979).
"""

import os
from typing import List, Sequence

from benchmarks.pages.paper import still_correct
from empir.evaluation.scores import Paired, paired
from empir.experiments import TABLE_ATTACKS, Experiment
from empir.report import rows
from empir.report.results import ROWS, row_records
from empir.report.tables import HEADS, pipe_table, probability

#: Probability of at least one wrong claim in a table.
LEVEL = 0.05
#: The rows that are compared at each radius: kinds of networks and decision rules, see `rows`.
COMPARED = (
    (("ensemble", "vote"), ("ensemble", "mean_logits")),
    (("ensemble", "vote"), ("baseline", None)),
    (("ensemble", "mean_logits"), ("baseline", None)),
)
#: Of the paper's table, the rows that are compared under each attack.
PROTOCOLS = (("empir-paper", "baseline"), ("empir-whitebox", "baseline"))
COLUMNS = ["images", "correct in the first only", "correct in the second only", "p", "shown"]


def holm(values: Sequence[float], level: float = LEVEL) -> List[bool]:
    """Which of some p-values Holm's procedure rejects, at a level for all of them together."""
    rejected, ordered = [False] * len(values), sorted(range(len(values)), key=values.__getitem__)
    for done, place in enumerate(ordered):
        if values[place] * (len(values) - done) > level:
            break
        rejected[place] = True
    return rejected


def suites(folder: str, experiment: Experiment) -> str:
    """Markdown table: the decision rules and the baseline under the adaptive suite, in pairs.

    Args:
      folder: folder of a dataset's records, beside robustness/.
      experiment: the dataset's.

    Raises:
      EmpirError: if what was found on the images is damaged, or not what the record says.
    """
    base = os.path.join(os.path.dirname(folder), "robustness")
    kept = [row for row in rows.suites(base, experiment.dataset) if row.kind in rows.KINDS]
    images = {(row.radius, row.kind, row.rule): row.images() for row in kept}
    titles, found = [], []
    for radius in dict.fromkeys(row.radius for row in kept):
        for pair in COMPARED:
            first, second = (images.get((radius, *one)) for one in pair)
            if first is not None and second is not None:
                names = [rule and f"EMPIR, {rule}" or rows.KINDS[kind] for kind, rule in pair]
                titles.append([rows.ball(radius), *names])
                found.append(first.against(second))
    return _table("radius", titles, found)


def attacks(folder: str, experiment: Experiment) -> str:
    """Markdown table: the ensemble and the baseline under each attack of the paper's table.

    Args:
      folder, experiment: as of `suites`.

    Raises:
      EmpirError: if an examples.npz is missing or damaged.
    """
    known = {row.folder: row for row in ROWS}
    titles, found = [], []
    for pair in PROTOCOLS:
        records = [row_records(folder, known[name]) for name in pair]
        for attack in TABLE_ATTACKS:
            if not all(attack in each for each in records):
                continue
            digests = {each[attack]["data"]["sha256"] for each in records}
            if len(digests) == 1:
                titles.append([HEADS[attack], *(known[name].title for name in pair)])
                after = [still_correct(folder, known[name], attack)[0] for name in pair]
                found.append(paired(*after))
    return _table("attack", titles, found)


def _table(what: str, titles: List[List[str]], found: List[Paired]) -> str:
    """The Markdown table of comparisons; `titles` has what is compared, and the names of both."""
    table = [[what, "first", "second", *COLUMNS]]
    for title, each, claimed in zip(titles, found, holm([each.p for each in found])):
        shown = "no difference"
        if claimed:
            shown = f"{title[1] if each.first > each.second else title[2]} keeps more"
        cells = [f"{each.images:,}", f"{each.first:,}", f"{each.second:,}", probability(each.p)]
        table.append([*title, *cells, shown])
    return pipe_table(table, "lllrrrrl")
