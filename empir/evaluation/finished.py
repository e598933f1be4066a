"""What a finished run left in its folder, accepted again only if it is whole and of that run."""

import logging
import os
import zipfile
from typing import Optional, Sequence

import numpy as np

from empir.errors import ResumeError
from empir.models.ensemble import DECISION_RULES
from empir.records import chunks, runs

log = logging.getLogger(__name__)

RESULT, EXAMPLES = "result.json", "examples.npz"
#: Arrays that records of earlier versions lack; a run that lacks them is accepted as it is.
ADDED = ("index", "adversarial_logits", "clean_logits", "shown")


def evaluation_record(out: str, head: dict, columns: Sequence[str], resume: bool):
    """The record of an evaluation that is finished in a folder; None if none is.

    Args:
      out: the folder.
      head: what the evaluation computes, see `evaluation.Job.describe`.
      columns: names of the arrays of its examples.npz.
      resume: whether a finished evaluation is accepted.

    Raises:
      ResumeError: if the folder holds another run, or this one and `resume` is False, or not all of
        what this one writes.
    """
    path, other = os.path.join(out, RESULT), os.path.join(out, runs.DESCRIPTION)
    if os.path.lexists(other):
        raise ResumeError("%s is of another kind of run: use another folder" % other)
    if not os.path.lexists(path):
        return None
    if not resume:
        raise ResumeError(
            "%s exists: --resume accepts it if it is of the same run; else use another --out" % path
        )
    record = runs.read_json(path)
    changed = runs.differences({key: record.get(key) for key in head}, head)
    if changed:
        raise ResumeError("%s is the result of another run (%s)" % (path, "; ".join(changed)))
    problem = _shape_problem(record, head)
    if problem:
        raise ResumeError(
            "%s is no record of an evaluation (%s): remove it, and it is computed again"
            % (path, problem)
        )
    examples = os.path.join(out, EXAMPLES)
    told = record.get("examples_sha256")
    problem = examples_problem(examples, told, columns, head["num_examples"])
    if problem:
        words = "%s %s: remove %s, and everything is computed again"
        raise ResumeError(words % (examples, problem, path))
    return record


def _shape_problem(record, head) -> Optional[str]:
    """What keeps a record from being an evaluation's, in words; None if nothing does."""
    try:
        members = record["member_accuracy"]
        pairs = [record["accuracy"][rule] for rule in DECISION_RULES] + list(members)
        numbers = [pair[name] for pair in pairs for name in ("clean", "adversarial")]
        numbers += [pair["adversarial_top5"] for pair in pairs if "clean_top5" in pair]
        numbers += [record[name] for name in ("clean_accuracy", "adversarial_accuracy", "mean_l2")]
        numbers += [record["seconds"][name] for name in ("clean", "attack")]
        numbers += [record["targeted_success"]] if head["attack"]["targeted"] else []
    except KeyError as error:
        return "no %s" % error.args[0]
    except (TypeError, AttributeError):
        return "not of its shape"
    if len(members) != len(head["members"]):
        return "%d accuracies of %d members" % (len(members), len(head["members"]))
    bad = [number for number in numbers if not _is_count(number)]
    return "%r is no accuracy, distance or time" % (bad[0],) if bad else None


def _is_count(value):
    """Whether a value is a number that is not negative; neither NaN nor a truth value is one."""
    return type(value) in (int, float) and value >= 0


def examples_problem(path: str, told, columns: Sequence[str], rows: int) -> Optional[str]:
    """What is wrong with the examples.npz of a finished run, in words; None if nothing is.

    Args:
      path: of the file.
      told: its SHA-256 by the record; None where the record is of a version that kept none, and the
        file's own checksums and its numbers of rows are all that tells.
      columns: names of the arrays that it has.
      rows: of each of them.
    """
    if not os.path.isfile(path):
        return "is not a regular file" if os.path.lexists(path) else "is missing"
    try:
        if told is not None and runs.file_digest(path) != told:
            return "is not the file that the run wrote"
        with chunks.opened(path) as archive:
            lacking = [name for name in columns if name not in archive.files]
            if set(lacking) - set(ADDED):
                return "has no array %s" % (set(lacking) - set(ADDED)).pop()
            if lacking and lacking != ["index"]:
                log.warning("%s is of an earlier version, without %s", path, ", ".join(lacking))
            if told is None:
                return _unsound(archive.zip, rows)
    except Exception as error:  # zipfile's, zlib's and NumPy's, of a file that is damaged
        return "is damaged (%s)" % " ".join(str(error).split())
    return None


def _unsound(archive: zipfile.ZipFile, rows) -> Optional[str]:
    """What the checksums and shapes of an archive's arrays tell of it; None if nothing is wrong."""
    broken = archive.testzip()
    if broken:
        return "is damaged (%s)" % broken
    for name in archive.namelist():
        with archive.open(name) as file:
            np.lib.format.read_magic(file)
            shape = np.lib.format.read_array_header_1_0(file)[0]
            if shape[:1] != (rows,):
                return "holds %s %s of %d examples" % (name, shape, rows)
    return None
