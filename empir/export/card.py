"""The model card of an exported ensemble (README.md), and its entry for RobustBench.

Accuracies come from the records in results/robustness of the clone that are of these members under
this decision rule. A card says so where there are none. Its head is the YAML that Hugging Face
reads, with `model-index`. robustbench.json has the fields of an entry of RobustBench's folder
model_info; it is written where there is a record at its radius, L-infinity 8/255 on CIFAR-10.
"""

import os
from typing import List, Optional, Tuple

import jinja2
import yaml

from empir import published
from empir.data import subsets
from empir.evaluation.scores import score
from empir.export.source import Source
from empir.records import runs
from empir.report import rows, shapes
from empir.report.robustness import NORMS

CARD, ROBUSTBENCH = "README.md", "robustbench.json"
PAPER = "https://openreview.net/forum?id=HJem3yHKwH"
TITLE = (
    "EMPIR: Ensembles of Mixed Precision Deep Networks for Increased Robustness Against "
    "Adversarial Attacks"
)
#: Hugging Face's names of datasets.
HUB = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10", "imagenet": "ILSVRC/imagenet-1k"}

#: A row of the results, and the record of its suite.
Found = Tuple[rows.Row, shapes.Record]

_FOLDER = os.path.dirname(os.path.abspath(__file__))


def write(source: Source, folder: str):
    """Write the card, and the entry for RobustBench where there is a record for one."""
    found = records(source)
    runs.write_atomically(os.path.join(folder, CARD), card(source, found))
    entry = robustbench(source, found)
    if entry is not None:
        runs.write_json(os.path.join(folder, ROBUSTBENCH), entry)


def records(source: Source) -> List[Found]:
    """The rows of the suites' records that are of these members under this rule, by radius."""
    base = os.path.join(published.clone(), "results", "robustness")
    if not published.clone() or not os.path.isdir(base):
        return []
    members = [member.sha256 for member in source.members]
    found = []
    for row in rows.suites(base, source.experiment.dataset):
        record = shapes.read(row.path, shapes.ROBUSTNESS)
        of_these = [member["sha256"] for member in record["members"]] == members
        if of_these and (len(members) == 1 or row.rule == source.combine):
            found.append((row, record))
    return found


def card(source: Source, found: List[Found]) -> str:
    """The text of README.md.

    Args:
      source: the ensemble.
      found: see `records`.
    """
    height, width, channels = source.network.input_shape
    low, high = source.experiment.clip_range
    loader = jinja2.FileSystemLoader(_FOLDER)
    template = jinja2.Environment(
        loader=loader,
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("card.md")
    return template.render(
        front=yaml.safe_dump(_front(source, found), sort_keys=False, width=100),
        name=_name(source),
        title=source.experiment.title,
        architecture=source.network.name,
        shape=f"[n, {channels}, {height}, {width}]",
        low=f"{low:g}",
        high=f"{high:g}",
        classes=source.network.num_classes,
        combine=source.combine,
        layers=", ".join(source.network.quantized_layers),
        members=[_member(member) for member in source.members],
        rows=[_row(*pair) for pair in found],
    )


def _name(source):
    return f"empir-{source.experiment.dataset}-{source.combine}"


def _member(member):
    known = {entry["sha256"]: entry for entry in published.manifest()["members"]}
    entry = known.get(member.sha256)
    training = f"{entry['objective']}, seed {entry['seed']}" if entry else "not known here"
    return {"precision": member.precision, "sha256": member.sha256, "training": training}


def _percent(fraction, images):
    found = score(fraction, images)
    low, high = found.interval
    return f"{found.percent:.1f} ({low:.1f} to {high:.1f})"


def _row(row, record):
    figures = row.figures()
    images = record["num_examples"]
    outside = figures.autoattack
    return {
        "norm": NORMS[record["norm"]],
        "radius": rows.number(row.radius),
        "images": images,
        "clean": _percent(figures.clean, images),
        "suite": _percent(record["worst_case_accuracy"], images),
        "autoattack": "not run" if outside is None else _percent(outside, images),
    }


def _front(source, found):
    """The head of the card, as plain data."""
    metrics = []
    for row, record in found:
        figures = row.figures()
        under = f"{NORMS[record['norm']]} {rows.number(row.radius)}"
        if not metrics:
            metrics.append(_metric("clean accuracy", figures.clean))
        metrics.append(_metric(f"robust accuracy, {under}", record["worst_case_accuracy"]))
        if figures.autoattack is not None:
            metrics.append(_metric(f"AutoAttack, {under}", figures.autoattack))
    front = {
        "license": "mit",
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["adversarial-robustness", "quantization", "ensemble"],
    }
    dataset = source.experiment.dataset
    if dataset in HUB:
        front["datasets"] = [HUB[dataset]]
    if metrics and dataset in HUB:
        task = {"type": "image-classification", "name": "Image classification"}
        of = {"name": source.experiment.title, "type": HUB[dataset], "split": "test"}
        result = {"task": task, "dataset": of, "metrics": metrics}
        front["model-index"] = [{"name": _name(source), "results": [result]}]
    return front


def _metric(name, value):
    return {"type": "accuracy", "name": name, "value": value}


def robustbench(source: Source, found: List[Found]) -> Optional[dict]:
    """The entry for RobustBench; None where there is no record at its radius.

    The paper reports nothing at this radius, so "reported" is null. "external" is the accuracy
    under the suite of this project's adaptive attacks; without a record of AutoAttack,
    "autoattack_acc" is null.
    """
    at = [pair for pair in found if pair[0].radius == "8-255" and pair[1]["norm"] == "linf"]
    if source.experiment.dataset != "cifar10" or not at:
        return None
    figures, record = at[0][0].figures(), at[0][1]

    drawn = record["data"].get("subset") == subsets.STRATIFIED

    def percent(fraction):
        return None if fraction is None else f"{100 * fraction:.2f}"

    return {
        "link": PAPER,
        "name": TITLE,
        "authors": "Sanchari Sen, Balaraman Ravindran, Anand Raghunathan",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": "cifar10",
        "venue": "ICLR 2020",
        "architecture": f"{len(source.members)} {source.network.name}, "
        + ", ".join(member.precision for member in source.members),
        "eps": "8/255",
        "clean_acc": percent(figures.clean),
        "reported": None,
        "autoattack_acc": percent(figures.autoattack),
        "external": percent(record["worst_case_accuracy"]),
        "unreliable": False,
        "footnote": f"A reproduction; decision rule {source.combine}; on {record['num_examples']} "
        f"test images{', drawn with each class share' if drawn else ''}.",
    }
