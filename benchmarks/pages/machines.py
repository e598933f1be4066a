"""The processors that the records of docs/performance.md were measured on, as a sentence."""

from typing import Dict, List

from benchmarks.pages import records
from benchmarks.pages.inference import MISSING
from benchmarks.pages.shapes import MEASURED

#: File of the record -> what it is of.
RECORDS = {
    "benchmark/comparison.json": "attacks, training and start",
    "benchmark/account-mnist.json": "operations of a step on MNIST",
    "benchmark/account-mnist-one.json": "operations of a step on one MNIST image",
    "benchmark/account-cifar10.json": "operations of a step on CIFAR-10",
    "benchmark/account-cifar10-one.json": "operations of a step on one CIFAR-10 image",
    "benchmark/suite_time.json": "suite beside AutoAttack",
    "benchmark/scale.json": "many images",
}


def markdown(folder: str, _) -> str:
    """`sentence` of the records beside a dataset's folder of results."""
    found = {}
    for name, title in RECORDS.items():
        record = records.read(folder, name, MEASURED)
        if record is not None:
            found[title] = record["processor"]
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
