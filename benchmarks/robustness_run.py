"""Reads what a finished run of `empir robustness` left: its folder, or the two files kept of it.

The folder holds all adversarial images. Of the runs in results/ only the record, NAME.json, and
what happened to each image, NAME.npz, are kept.
"""

import os
from dataclasses import dataclass
from typing import Optional

import numpy as np

from empir.data import Dataset
from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.evaluation.threat import Threat
from empir.records import chunks, runs
from empir.report import shapes

#: Keys of a run's record that describe what it attacked.
HEAD = ("dataset", "architecture", "combine", "members", "eps", "norm", "num_examples", "data")
#: The networks that AutoAttack attacks in PyTorch: those of images in [0, 1].
ARCHITECTURES = ("MNISTconv", "CIFARconv")


def _is_file_name(value):
    return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value


#: An attack's name is the name of its folder, from which nothing else may be read.
RUN = dict(
    {key: shapes.ROBUSTNESS[key] for key in ("dataset", "architecture", "norm")},
    combine=shapes.RULE,
    members=shapes.Some(shapes.MEMBER),
    eps=shapes.POSITIVE,
    num_examples=shapes.IMAGES,
    data={"sha256": shapes.TEXT},
    options=shapes.Every(shapes.Kind("an option", lambda value: True)),
    trials=[{"name": shapes.Kind("the name of a folder", _is_file_name)}],
)


def _is_kept(run):
    return run.endswith(".json")


def read_record(run: str) -> dict:
    """The record of a run.

    Args:
      run: the run's folder, or the file of its record.

    Raises:
      EmpirError: if it is missing or damaged, or if there is no such network in PyTorch: another
        architecture, members that draw at random, or bits per layer.
    """
    path = run if _is_kept(run) else os.path.join(run, "result.json")
    if not os.path.lexists(path):
        raise EmpirError(
            f"no {path}: --run is the folder that was --out of empir robustness, or a record of it "
            "with its NAME.npz beside it"
        )
    record = shapes.read(path, RUN)
    for key in HEAD + ("trials",):
        record[key]  # a missing key is an error
    record["data"]["sha256"]
    if record["architecture"] not in ARCHITECTURES:
        raise EmpirError(
            f"{path}: AutoAttack cannot run with architecture {record['architecture']!r}, only "
            f"with {', '.join(ARCHITECTURES)}"
        )
    others = sorted(set(record.get("options", {})) - {"nb_filters"})
    if others:
        raise EmpirError(f"{path}: AutoAttack cannot run on networks with {', '.join(others)}")
    for member in record["members"]:
        lacking = [key for key in shapes.MEMBER if key not in member]
        lacking += ["path"] if "path" in member and not member["path"] else []
        if lacking:
            raise EmpirError(
                f"{path}: member {member.get('path')} has no {', '.join(lacking)}: AutoAttack runs "
                "on checkpoints of this project only"
            )
        if isinstance(member["weight_bits"], list):
            raise EmpirError(
                f"{path}: {member['path']} has bits per layer, which AutoAttack cannot run on"
            )
    return record


@dataclass(frozen=True)
class Attacked:
    """The images of a run, and the adversarial images that it found.

    Attributes:
      record: the run's.
      data: clean images and true labels.
      found: bool [n], whether an attack of the run succeeded within the radius.
      adversarial: float32 [n, h, w, c], the first success on each such image, else the clean image;
        None if they were not kept.
    """

    record: dict
    data: Dataset
    found: np.ndarray
    adversarial: Optional[np.ndarray]


def read_images(run: str, record: dict, data: Dataset, count: Optional[int] = None) -> Attacked:
    """The first images of a run, and what its attacks found on them.

    Args:
      run, record: see `read_record`.
      data: the split that it attacked.
      count: number of images; None for all of the run.

    Raises:
      EmpirError: if the data are others, or an attack's images are missing or damaged.
    """
    data = data.described(record["data"], record["num_examples"])
    if data.digest() != record["data"]["sha256"]:
        raise EmpirError(
            f"{run} attacked other images than those of {data.source} "
            f"(sha256 {record['data']['sha256']:.8}..., not {data.digest():.8}...)"
        )
    data = data if count is None else data.first(count)
    if _is_kept(run):
        # Of an image that is misclassified without an attack nothing was found, as in a folder.
        images = per_image.read_of(run[: -len(".json")] + ".npz", record)
        found = np.any(list(images.counted.values()), 0)
        return Attacked(record, data, found[: len(data.labels)], None)
    found, adversarial = np.zeros(len(data.labels), bool), data.images.copy()
    threat = Threat(record["norm"], record["eps"])
    for trial in record["trials"]:
        path = os.path.join(run, trial["name"], "examples.npz")
        row, images = _successes(path, data.images.shape[1:])
        new = row < len(found)
        new[new] = ~found[row[new]]
        row, images = row[new], images[new]
        valid = threat.contains(data.images[row], images, data.clip_range)
        found[row[valid]], adversarial[row[valid]] = True, images[valid]
    return Attacked(record, data, found, adversarial)


def _successes(path, shape):
    """Rows, int [m], and images, float32 [m, *shape], of the successes in an examples.npz."""
    if not os.path.lexists(path):
        raise EmpirError(f"no {path}: AutoAttack needs the images of the whole run")
    record = os.path.join(os.path.dirname(path), "result.json")
    state = runs.read_json(record).get("state") if os.path.lexists(record) else None
    try:
        if state and runs.file_digest(path) != state["examples"]:
            raise ValueError("not the file that the run wrote")
        with chunks.opened(path) as arrays:
            success, row = arrays["success"], arrays["row"]
            images = arrays["adversarial"] if len(row) else np.zeros((0,) + shape, np.float32)
        if images.shape[1:] != shape or len(images) != len(row) or (row < 0).any():
            raise ValueError(f"images {images.shape} for {len(row)} rows")
        return row[success], images[success]
    except Exception as error:  # zipfile's, zlib's and NumPy's, for a damaged file
        raise EmpirError(f"{path} is unreadable: {' '.join(str(error).split())}")
