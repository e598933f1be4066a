"""Tables of how many outcomes change with the computation (`python -m benchmarks.flips`)."""

import os
from typing import Dict, Tuple

import numpy as np

from benchmarks.pages.shapes import FLIPS
from empir.errors import EmpirError
from empir.experiments import Experiment
from empir.records import chunks
from empir.report import shapes
from empir.report.tables import aligned, pipe_table

#: What is changed, by the name of the change in the record.
TITLES = {
    "kernels": "networks computed layer by layer, not by the engine",
    "batch-500": "500 images of a batch, not 100",
    "batch-20": "20 images of a batch, not 100",
    "batch-1": "one image of a batch, not 100",
    "threads": "two threads, not one",
    "seed": "another seed of the random start",
    "machine": "another machine, or other versions",
}
HEADS = [
    "change",
    "protocol",
    "images",
    "accuracy",
    "after the change",
    "outcomes that change",
    "of these now correct",
]


def key(protocol: str, change: str) -> str:
    """Name of an attack's outcomes in the .npz file beside the record."""
    return f"{protocol} {change}"


def count(before: np.ndarray, after: np.ndarray) -> Dict[str, float]:
    """What a change does to outcomes, bool [n], whether the attack succeeds on each image.

    Returns:
      "images"; "accuracy" and "changed_accuracy", before and after the change; "flips", the number
      of images whose outcome changes, and "now_correct", that of those that are correct after it.
    """
    return {
        "images": len(before),
        "accuracy": float(1 - before.mean()),
        "changed_accuracy": float(1 - after.mean()),
        "flips": int((before != after).sum()),
        "now_correct": int((before & ~after).sum()),
    }


def read(path: str) -> Tuple[shapes.Record, Dict[str, np.ndarray]]:
    """A record, and the outcomes beside it, bool [n], by `key`.

    Raises:
      EmpirError: if either is missing or damaged, or the counts are not those of the outcomes.
    """
    record = shapes.read(path, FLIPS)
    beside, images = os.path.splitext(path)[0] + ".npz", record["num_examples"]
    try:
        with chunks.opened(beside) as archive:
            kept = {name: np.unpackbits(archive[name])[:images] for name in archive.files}
    except Exception as error:  # zipfile's, zlib's and NumPy's, of a file that is damaged
        raise EmpirError(f"{beside} is unreadable: {' '.join(str(error).split())}")
    kept = {name: bits.astype(bool) for name, bits in kept.items()}
    for row in record["changes"]:
        pair = [kept.get(key(row["protocol"], change)) for change in ("none", row["change"])]
        if any(one is None or len(one) != images for one in pair):
            raise EmpirError(f"{beside} lacks {row['change']}, {row['protocol']}: make both anew")
        if any(row[name] != value for name, value in count(*pair).items()):
            raise EmpirError(f"{path} is not what {beside} says: make both anew")
    return record, kept


def _rows(record):
    for row in record["changes"]:
        title = TITLES[row["change"]]
        if record["against"] is not None:
            title += f": {record['processor']}, not {record['against']}"
        cells = [title, row["protocol"], f"{row['images']:,}"]
        cells += ["%.2f" % (100 * row[name]) for name in ("accuracy", "changed_accuracy")]
        yield [*cells, str(row["flips"]), str(row["now_correct"])]


def terminal(record: dict) -> str:
    """The counts of a record as an aligned table."""
    return "\n".join(aligned([HEADS, *_rows(record)]))


def markdown(folder: str, experiment: Experiment) -> str:
    """Markdown table of the records of a dataset in flips, beside `folder`, a dataset's records.

    They are DATASET.json and, if there is one, DATASET-machine.json, which --against made.

    Raises:
      EmpirError: see `read`.
    """
    path = os.path.join(os.path.dirname(folder), "flips", experiment.dataset)
    rows = list(_rows(read(path + ".json")[0]))
    if os.path.exists(path + "-machine.json"):
        rows += _rows(read(path + "-machine.json")[0])
    return pipe_table([HEADS, *rows], "ll")
