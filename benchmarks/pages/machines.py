"""The processors that the records of docs/performance.md were measured on, as a sentence."""

import os
from typing import Dict, List

from benchmarks.pages.inference import MISSING
from benchmarks.pages.shapes import MEASURED
from empir.report import shapes

#: File of the record -> what it is of.
RECORDS = {
    "comparison.json": "attacks, training and start",
    "account-mnist.json": "operations of a step on MNIST",
    "account-mnist-one.json": "operations of a step on one MNIST image",
    "account-cifar10.json": "operations of a step on CIFAR-10",
    "account-cifar10-one.json": "operations of a step on one CIFAR-10 image",
    "suite_time.json": "suite beside AutoAttack",
    "scale.json": "many images",
}


def markdown(folder: str, _) -> str:
    """`sentence` of the records beside a dataset's folder of results."""
    base, found = os.path.join(os.path.dirname(folder), "benchmark"), {}
    for name, title in RECORDS.items():
        path = os.path.join(base, name)
        if os.path.exists(path):
            found[title] = shapes.read(path, MEASURED)["processor"]
    return sentence(found)


def sentence(processors: dict) -> str:
    """Which machine each record is of; one, where they all are of the same.

    Args:
      processors: what was measured -> the processor, as the record names it.
    """
    if not processors:
        return MISSING
    if len(set(processors.values())) == 1:
        return f"Everything on this page was measured on one machine: {min(processors.values())}."
    told: Dict[str, List[str]] = {}
    for title, processor in processors.items():
        told.setdefault(processor, []).append(title)
    parts = (f"{', '.join(titles)}: {processor}" for processor, titles in told.items())
    return f"These measurements are of different machines. {'; '.join(parts)}."
