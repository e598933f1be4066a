"""The table of the adaptive suites' records in robustness/ among the results."""

import os

from empir.data import subsets
from empir.experiments import Experiment
from empir.report import rows, shapes
from empir.report.results import paper_row
from empir.report.robustness import percent
from empir.report.tables import pipe_table


def markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table of a dataset's records in robustness/ beside `folder`, its results.

    Raises:
      EmpirError: if a file has another name (`rows`), or a record lacks what the table needs.
    """
    base = os.path.join(os.path.dirname(folder), "robustness")
    cells = [_row(experiment, row) for row in rows.suites(base, experiment.dataset)]
    first = "network|decision rule|radius|images|clean|the paper's PGD|PGD, paper|PGD, whitebox"
    heads = (first + "|noise|FGSM|Auto-PGD|adaptive suite|95 % interval|AutoAttack").split("|")
    return pipe_table([heads + ["failed checks"], *cells], "ll" + 12 * "r" + "l")


def _row(experiment, row):
    known = row.figures()
    record = known.suite
    alone = {trial["name"]: trial["accuracy"] for trial in record["trials"]}
    alone = shapes.Record(alone, record.where + ": trials")
    cells = [rows.KINDS[row.kind], row.rule or "", rows.ball(row.radius)]
    cells += [images(record), percent(known.clean)]
    model = {("ensemble", "vote"): "empir", ("baseline", None): "baseline"}
    papers = record["norm"] == "linf" and record["eps"] == experiment.eps
    model = model.get((row.kind, row.rule)) if papers else None
    cells.append("%.2f" % paper_row(experiment.dataset, model)["pgd"] if model else "")
    cells += ["" if each is None else percent(each) for each in (known.paper, known.whitebox)]
    cells += [percent(alone[name]) for name in ("noise", "fgsm", "apgd-ce")]
    cells.append("**%s**" % percent(record["worst_case_accuracy"]))
    cells.append("%s to %s" % tuple(map(percent, record["interval"])))
    cells.append("" if known.autoattack is None else percent(known.autoattack))
    failed = [check["name"] for check in record["verdicts"] if check["passed"] is False]
    return cells + [", ".join(failed) or ("none" if record["verdicts"] else "-")]


def images(record: dict) -> str:
    """The number of images of a record, and how they were chosen, in a table's cell."""
    how = "drawn" if record["data"].get("subset") == subsets.STRATIFIED else "first"
    return f"{record['num_examples']:,}, {how}"
