"""Folders of an evaluation's attacks: their arrays and rows, checked before they are used again."""

import hashlib
import json
import logging
import os
from typing import Optional, Sequence

import numpy as np

from empir.errors import ResumeError
from empir.evaluation import places
from empir.evaluation.finished import EXAMPLES, RESULT
from empir.evaluation.specs import AttackSpec
from empir.records import chunks, runs

log = logging.getLogger(__name__)

#: What examples.npz of an attack holds, per attacked image.
COLUMNS = ("row", "rounds", "success", "decision", "members", "margin", "l2", "linf", "adversarial")
#: Key of an attack's result.json: what tells whose it is. It is no part of the evaluation's record.
STATE = "state"
#: Key of the state: who computed it, see `places.workers`.
WORKERS = "workers"


class Storage:
    """Folders of attacks below that of an evaluation.

    Args:
      out: folder of the evaluation.
      run: `runs.digest` of what is evaluated.
      how: what changes numbers by rounding only, see `chunks.ChunkStore`.
    """

    def __init__(self, out: str, run: str = "", how: str = ""):
        self._out, self._run, self._how = out, run, how
        self._told = False

    def folder(self, name: str) -> str:
        """Folder of a spec."""
        return os.path.join(self._out, name)

    def arrays(self, name: str, keys: Sequence[str] = COLUMNS) -> dict:
        """Arrays of an attack that was run; `ResumeError` if they are missing or damaged."""
        return arrays(self.folder(name), keys)

    def store(self, spec: AttackSpec, seen: np.ndarray) -> chunks.ChunkStore:
        """Finished chunks of an attack on the images `seen`, in a folder that is made."""
        folder = os.path.join(self.folder(spec.name), runs.PARTIAL)
        store = chunks.ChunkStore(folder, self._digest(spec, seen), self._how)
        runs.make_folder(folder)
        return store

    def keep(self, spec: AttackSpec, seen: np.ndarray, store: chunks.ChunkStore, starts, row: dict):
        """Write an attack's examples.npz and result.json, and delete its chunks.

        Args:
          spec, seen: the attack, and the images that it attacked.
          store, starts: its chunks, and the index of each one's first row.
          row: its row of the evaluation's record.
        """
        folder = self.folder(spec.name)
        examples = store.write_npz(os.path.join(folder, EXAMPLES), COLUMNS, starts)
        state = dict(run=self._digest(spec, seen), examples=examples, how=self._how)
        workers = places.workers(store, starts)
        if workers:
            state[WORKERS] = workers
        runs.write_json(os.path.join(folder, RESULT), dict(row, **{STATE: state}))
        store.remove()

    def workers(self, name: str) -> list:
        """Who computed an attack that was run, see `places.workers`."""
        path = os.path.join(self.folder(name), RESULT)
        return (runs.read_json(path).get(STATE) or {}).get(WORKERS, [])

    def row(self, spec: AttackSpec, seen: np.ndarray) -> Optional[dict]:
        """A finished attack's row of the evaluation's record; None if it is not finished.

        Raises:
          ResumeError: if its folder holds another one, or one on other images, or is damaged.
        """
        folder = self.folder(spec.name)
        path = os.path.join(folder, RESULT)
        if not os.path.lexists(path):
            return None
        row = runs.read_json(path)
        state = row.pop(STATE, None)
        examples = os.path.join(folder, EXAMPLES)
        problem = self._problem(row, state, spec, seen)
        if problem:
            raise _refused(folder, "is of another run (%s)" % problem)
        if state and runs.file_digest_or_none(examples) != state["examples"]:
            raise _refused(folder, "has no sound %s (not the file that was written)" % EXAMPLES)
        kept = self.arrays(spec.name, ("row", "success"))
        if not np.array_equal(kept["row"], seen):
            raise _refused(folder, "is of another run (it attacked other images)")
        if row["broken"] != int(kept["success"].sum()):
            raise _refused(folder, "is damaged (its record counts other successes than its images)")
        partial = os.path.join(folder, runs.PARTIAL)
        if os.path.lexists(partial):  # it was killed at the end
            chunks.ChunkStore(partial).remove()
        return row

    def _problem(self, row, state, spec, seen):
        """What keeps a finished row from being this one's, in words."""
        told = json.loads(json.dumps(dict(spec.describe(), attacked=len(seen))))
        changed = runs.differences({key: row.get(key) for key in told}, told)
        if changed:
            return "; ".join(changed)
        numbers = [row.get("broken"), row.get("seconds")]
        numbers += [row.get("accuracy")] if spec.everyone else []
        if any(type(number) not in (int, float) for number in numbers):
            return "no count of its successes, or no time"
        if state is None:  # of a version that kept none
            return None
        if not isinstance(state, dict) or state.get("run") != self._digest(spec, seen):
            return "of other networks, data or settings, or on other images"
        if state.get("how") != self._how and not self._told:
            self._told = True
            words = "%s: begun with %s, goes on with %s: numbers may differ by rounding"
            log.warning(words, self._out, state.get("how"), self._how)
        return None

    def _digest(self, spec, seen):
        """Digest of what an attack computes on some images."""
        images = hashlib.sha256(np.asarray(seen, np.int64).tobytes()).hexdigest()
        return runs.digest(dict(run=self._run, trial=spec.describe(), images=images))


def check_free(out: str):
    """Raise `ResumeError` if a folder holds another kind of run, or attacks of unknown settings."""
    described = os.path.lexists(os.path.join(out, runs.DESCRIPTION))
    path = os.path.join(out, RESULT)
    if os.path.lexists(path) and not (described and "trials" in runs.read_json(path)):
        raise _other_kind(path)
    partial = os.path.join(out, runs.PARTIAL)
    if os.path.lexists(partial):
        raise _other_kind(partial)
    if described or not os.path.isdir(out):
        return
    for name in sorted(os.listdir(out)):
        path = os.path.join(out, name, RESULT)
        if os.path.isfile(path) and STATE not in runs.read_json(path):
            raise ResumeError(
                "%s holds a result, but there is no %s that says of which networks: use another "
                "folder" % (os.path.join(out, name), os.path.join(out, runs.DESCRIPTION))
            )


def _other_kind(path):
    return ResumeError("%s is of another kind of run: use another folder" % path)


def _refused(folder, problem):
    return ResumeError("%s %s: remove the folder, and its attack runs again" % (folder, problem))


def arrays(folder: str, keys: Sequence[str] = COLUMNS) -> dict:
    """Arrays of an attack's folder; `ResumeError` if they are missing or damaged."""
    try:
        with chunks.opened(os.path.join(folder, EXAMPLES)) as kept:
            return {key: kept[key] for key in keys}
    except Exception as error:  # zipfile's, zlib's and NumPy's, of a file that is damaged
        reason = " ".join(str(error).split())
        raise _refused(folder, "has no sound %s (%s)" % (EXAMPLES, reason))
