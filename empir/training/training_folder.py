"""The folder that a training keeps its state in, and at the end its checkpoint and training.json.

While a training is under way the folder holds `training-state/`: run.json, which says what is
trained; state.json, which says how far it is and names the files of that state, with their sha256;
and these files. state.json is written last, so that it is of a whole state at any time. All names
in it are relative: the folder may be copied or moved.

The training is over when `training-state/` gets another name, in one step: it is `final-state/` if
the state is kept for training on, else it is deleted. Whatever a kill leaves besides is removed by
the next command.
"""

import contextlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from typing import List, Optional

from empir.errors import EmpirError, ResumeError
from empir.models import checkpoint_files, checkpoints
from empir.records import locks, runs

log = logging.getLogger(__name__)

FINAL = "final-state"
_REMOVED = ".removed-state"  # a state that is being deleted
_PROGRESS = "state.json"
_AGAIN = "the training starts from the beginning"


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
      step: number of optimizer steps so far.
      history: per finished epoch, what was measured.
      sums: of the epoch under way: loss, accuracy, steps.
      prefix: path of the saved variables, without TensorFlow's suffixes.
    """

    step: int
    history: list
    sums: list
    prefix: str


def is_unfinished(folder: str) -> bool:
    """Whether a folder holds the state of a training that is not over."""
    return os.path.isdir(os.path.join(folder, runs.TRAINING))


def is_finished(folder: str) -> bool:
    """Whether a folder holds a checkpoint and no training that is to replace it."""
    return checkpoint_files.has_checkpoint(folder) and not is_unfinished(folder)


def is_free(folder: str) -> bool:
    """Whether a folder has room for a training: nothing visible but a distillation's teacher."""
    return not [name for name in os.listdir(folder) if name[0] != "." and name != "teacher"]


def tidy(folder: str):
    """Remove what a killed training has left in its folder, if there is anything.

    Raises:
      ResumeError: if another process has the folder.
      EmpirError: if it cannot be written to.
    """
    if os.path.isdir(folder) and _litter(folder):
        with locks.lock(folder):
            _remove_litter(folder)


def _litter(folder):
    """Paths in a folder of what only a training under way, or a killed one, has there."""
    return [
        os.path.join(folder, name)
        for name in os.listdir(folder)
        if name in (_REMOVED, checkpoints.RECORD + ".writing")
        or name.startswith(checkpoint_files.STAGING)
    ]


def _remove_litter(folder):
    try:
        for path in _litter(folder):
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.remove(path)
    except OSError as error:
        raise EmpirError(f"cannot write to {folder}: {error.strerror}")


class Folder:
    """A training's folder; `opened` gives one.

    Args:
      path: the folder.
      description: what determines the trained weights, as plain data, with `epochs`.

    Attributes:
      is_over: whether the folder holds what the description says, trained to its end.
    """

    def __init__(self, path: str, description: dict):
        self.path = path
        self._state = os.path.join(path, runs.TRAINING)
        self._final = os.path.join(path, FINAL)
        self._description = json.loads(json.dumps(description))
        self._run = {k: v for k, v in self._description.items() if k != "epochs"}
        self._goes_on = False
        self.is_over = False

    def inspect(self, resume: bool, defaults: dict):
        """Decide what to do with what the folder holds; nothing is written.

        Args:
          resume: whether a training that is there already is wanted.
          defaults: values of the description that a training.json of before does not name.

        Raises:
          ResumeError: if that is another training, or a longer one, or `resume` is False.
        """
        if is_unfinished(self.path) or not checkpoint_files.has_checkpoint(self.path):
            return
        record = checkpoints.training_record(self.path)
        if record is None:
            raise ResumeError(
                f"{self.path} holds a checkpoint that was not trained there: use another folder"
            )
        if not resume:
            raise ResumeError(
                f"{self.path} holds a trained network: --resume with more epochs trains it on; for "
                "another one use another folder"
            )
        before = {key: record.get(key, defaults.get(key)) for key in self._description}
        done, wanted = before.pop("epochs"), self._description["epochs"]
        changed = "; ".join(runs.differences(before, self._run))
        if changed:
            raise ResumeError(f"{self.path} holds another training ({changed}): use another folder")
        if not isinstance(done, int) or done > wanted:
            raise ResumeError(
                f"{self.path} was trained for {done} epochs, more than the {wanted} that are asked "
                "for: use another folder"
            )
        self.is_over = done == wanted
        self._goes_on = True

    def begin(self, resume: bool):
        """Make the folder that of this training.

        Raises:
          ResumeError: if it holds the state of another training, or of this one without `resume`.
          EmpirError: if it cannot be written.
        """
        if self._goes_on and os.path.isdir(self._final):
            os.rename(self._final, self._state)
        elif self._goes_on:
            log.info(
                "%s keeps no state to train on from: it is trained again from the beginning, "
                "which gives the same weights (--keep_state would have kept it)",
                self.path,
            )
        record = os.path.join(self._state, runs.DESCRIPTION)
        if not os.path.lexists(record) and os.path.lexists(os.path.join(self._state, _PROGRESS)):
            self.progress()  # refuses another training's before this one's run.json joins it
        description = dict(self._description)
        if os.path.lexists(record):  # more epochs, or fewer, are the same training
            description["epochs"] = runs.read_json(record).get("epochs")
        runs.claim(self._state, description, resume or self._goes_on, "training")

    def progress(self) -> Optional[Progress]:
        """How far the training is; None at its beginning, and if its state is damaged.

        Raises:
          ResumeError: if the state is that of another training, or of more epochs.
        """
        path = os.path.join(self._state, _PROGRESS)
        if os.path.lexists(path) and not os.path.isfile(path):
            raise ResumeError(f"{path} is not a regular file: remove it")
        try:
            content = self._read(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is damaged (%s): %s", path, " ".join(str(error).split()), _AGAIN)
            return None
        if content is None:
            return None
        if content["run"] != runs.digest(self._run):
            raise ResumeError(
                f"{path} is the state of another training: use another folder, or remove it"
            )
        done, epochs = len(content["history"]), self._description["epochs"]
        if done > epochs:
            raise ResumeError(
                f"{path} is of {done} finished epochs, more than the {epochs} that are asked for: "
                "use another folder, or remove it"
            )
        for name, sha256 in content["files"].items():
            file = os.path.join(self._state, name)
            if runs.file_digest_or_none(file) != sha256:
                log.warning("%s is missing or damaged: %s", file, _AGAIN)
                return None
        prefix = os.path.join(self._state, content["prefix"])
        return Progress(content["step"], content["history"], content["sums"], prefix)

    def _read(self, path):
        """The content of state.json; None if there is none. Raises what a damaged one causes."""
        if not os.path.lexists(path):
            if set(os.listdir(self._state)) - {runs.DESCRIPTION}:
                log.warning("%s is missing: %s", path, _AGAIN)
            return None
        content = json.loads(runs.read_regular(path).decode("utf8"))
        if content.pop("sha256") != runs.digest(content):
            raise ValueError("its checksum is another")
        names = [content["prefix"], *content["files"]]
        if any(os.path.basename(name) != name for name in names):
            raise ValueError("it names a file in another folder")
        return content

    def save(self, write, step: int, history: List[dict], sums: List[float]):
        """Keep a state.

        Args:
          write: called with a path, saves the variables in files that begin with it.
          Others as of `Progress`.

        Raises:
          OSError, tf.errors.OpError: if it cannot be written; the state before it is still whole.
        """
        prefix = f"state-{step}"
        write(os.path.join(self._state, prefix))
        files = sorted(n for n in os.listdir(self._state) if n.startswith(prefix + "."))
        content = {
            "run": runs.digest(self._run),
            "step": step,
            "history": history,
            "sums": sums,
            "prefix": prefix,
            "files": {n: runs.file_digest(os.path.join(self._state, n)) for n in files},
        }
        content["sha256"] = runs.digest(content)
        runs.write_atomically(os.path.join(self._state, _PROGRESS), json.dumps(content))
        for name in set(os.listdir(self._state)) - {runs.DESCRIPTION, _PROGRESS, *files}:
            path = os.path.join(self._state, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.remove(path)

    def finish(self, keep_state: bool):
        """End the training, once checkpoint and training.json are there."""
        if os.path.isdir(self._final):  # of fewer epochs
            self._remove(self._final)
        if keep_state:
            os.rename(self._state, self._final)
        else:
            self._remove(self._state)

    def _remove(self, folder):
        removed = os.path.join(self.path, _REMOVED)
        os.rename(folder, removed)
        shutil.rmtree(removed)


@contextlib.contextmanager
def opened(path: str, description: dict):
    """A training's `Folder`, which no other process has while the block runs.

    Raises:
      ResumeError: if another process has it.
      EmpirError: if it cannot be made or written to.
    """
    with locks.lock(path):
        _remove_litter(path)
        yield Folder(path, description)
