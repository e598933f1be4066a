"""Reads the records and images of a finished `empir robustness` run, for the AutoAttack check."""

import os
from typing import NamedTuple, Optional

import numpy as np

from empir.data import Dataset
from empir.errors import EmpirError
from empir.evaluation.ball import NORMS, reach
from empir.records import chunks, runs

ARCHITECTURES = ("MNISTconv", "CIFARconv")  # of benchmark/pytorch_worker.py
#: What of a run's record goes into that of a check.
HEAD = ("dataset", "architecture", "combine", "members", "eps", "norm", "num_examples", "data")


def read_record(folder: str) -> dict:
    """The record of a run.

    Raises:
      EmpirError: if it is missing, no such record, or of what PyTorch's networks cannot be: another
        architecture, another decision rule than mean_logits, members that draw at random, or bits
        per layer.
    """
    path = os.path.join(folder, "result.json")
    if not os.path.lexists(path):
        raise EmpirError("no %s: --run is the folder that was --out of empir robustness" % path)
    record = runs.read_json(path)
    missing = [key for key in HEAD + ("trials",) if key not in record]
    if missing:
        raise EmpirError(
            "%s has no %s: it is no record of empir robustness" % (path, ", ".join(missing))
        )
    problem = _shape_problem(record)
    if problem:
        raise EmpirError("%s: %s: it is no record of empir robustness" % (path, problem))
    choices = [("architecture", ARCHITECTURES), ("combine", ("mean_logits",)), ("norm", NORMS)]
    for key, known in choices:
        if record[key] not in known:
            raise EmpirError(
                "%s: %s %r has no check from outside, which there is for %s"
                % (path, key, record[key], ", ".join(known))
            )
    others = sorted(set(record.get("options", {})) - {"nb_filters"})
    if others:
        raise EmpirError("%s: there is no check of networks with %s" % (path, ", ".join(others)))
    for member in record["members"]:
        lacking = [k for k in ("weight_bits", "activation_bits", "sha256") if k not in member]
        lacking += ["path"] if not member.get("path") else []
        if lacking:
            raise EmpirError(
                "%s: member %s has no %s: there is a check of checkpoints of this project only"
                % (path, member.get("path"), ", ".join(lacking))
            )
        if isinstance(member["weight_bits"], list):
            raise EmpirError("%s: %s has bits per layer, PyTorch's not" % (path, member["path"]))
    return record


def _shape_problem(record) -> Optional[str]:
    """What keeps a record from having the shape of a run's, in words."""
    shapes = dict(dataset=str, architecture=str, combine=str, norm=str, data=dict, options=dict)
    shapes.update(members=list, trials=list, num_examples=int)
    wrong = [
        key for key, shape in sorted(shapes.items()) if type(record.get(key, shape())) is not shape
    ]
    if wrong:
        return "%s is %r" % (wrong[0], record[wrong[0]])
    is_radius = type(record["eps"]) in (int, float) and 0 < record["eps"] < np.inf
    if not is_radius or record["num_examples"] < 1:
        return "eps is %r, num_examples %r" % (record["eps"], record["num_examples"])
    if not isinstance(record["data"].get("sha256"), str):
        return "data has no sha256"
    if not record["members"] or not all(isinstance(member, dict) for member in record["members"]):
        return "members are %r" % record["members"]
    for trial in record["trials"]:
        name = trial.get("name") if isinstance(trial, dict) else None
        if not isinstance(name, str) or name in ("", ".", "..") or os.path.basename(name) != name:
            return "an attack is named %r" % (name,)  # it would be read from another folder
    return None


class Attacked(NamedTuple):
    """What a run left of the images that are checked.

    Attributes:
      record: the run's.
      data: clean images and true labels.
      found: bool [n], whether an attack of the run succeeded inside the ball.
      adversarial: float32 [n, h, w, c], of each such image the first success, else the clean image.
    """

    record: dict
    data: Dataset
    found: np.ndarray
    adversarial: np.ndarray


def read_images(folder: str, record: dict, data: Dataset, count: Optional[int] = None) -> Attacked:
    """What the trials of a run left of its first images.

    Args:
      folder, record: of the run; see `read_record`.
      data: the split that it attacked.
      count: how many of its images; None = all.

    Raises:
      EmpirError: if the data are others, or a trial's images are missing or no such images.
    """
    data = data.described(record["data"], record["num_examples"])
    if data.digest() != record["data"]["sha256"]:
        raise EmpirError(
            "%s attacked other images than those of %s (sha256 %.8s..., not %.8s...)"
            % (folder, data.source, record["data"]["sha256"], data.digest())
        )
    data = data if count is None else data.first(count)
    found, adversarial = np.zeros(len(data.labels), bool), data.images.copy()
    for trial in record["trials"]:
        path = os.path.join(folder, trial["name"], "examples.npz")
        row, images = _successes(path, data.images.shape[1:])
        new = row < len(found)
        new[new] = ~found[row[new]]
        row, images = row[new], images[new]
        near = inside(data.images[row], images, record["eps"], record["norm"], data.clip_range)
        found[row[near]], adversarial[row[near]] = True, images[near]
    return Attacked(record, data, found, adversarial)


def _successes(path, shape):
    """Rows, int [m], and images, float32 [m, *shape], of the successes in an examples.npz."""
    if not os.path.lexists(path):
        raise EmpirError("no %s: the check needs the images of the whole run" % path)
    record = os.path.join(os.path.dirname(path), "result.json")
    state = runs.read_json(record).get("state") if os.path.lexists(record) else None
    try:
        if state and runs.file_digest(path) != state["examples"]:
            raise ValueError("not the file that the run wrote")
        with chunks.opened(path) as kept:
            success, row = kept["success"], kept["row"]
            images = kept["adversarial"] if len(row) else np.zeros((0,) + shape, np.float32)
        if images.shape[1:] != shape or len(images) != len(row) or (row < 0).any():
            raise ValueError("images %s for %d rows" % (images.shape, len(row)))
        return row[success], images[success]
    except Exception as error:  # zipfile's, zlib's and NumPy's, of a file that is not as written
        raise EmpirError("%s is unreadable: %s" % (path, " ".join(str(error).split())))


def inside(images, adversarial, eps: float, norm: str, clip_range) -> np.ndarray:
    """Which images, float32 [n, h, w, c], are finite, in range and at most `eps` from the clean."""
    low, high = clip_range
    flat = adversarial.reshape(len(images), images[0].size if len(images) else 1)
    change = flat.astype(np.float64) - images.reshape(flat.shape)
    with np.errstate(invalid="ignore"):
        far = np.linalg.norm(change, NORMS[norm], axis=1)
        near = far <= reach(eps, norm, clip_range, flat.shape[1])
        return near & ((flat >= low) & (flat <= high)).all(axis=1)
