"""Runs AutoAttack's attacks one after the other in a worker, and keeps their progress in a file."""

import logging
import os

import numpy as np

from benchmarks.robustness_run import Attacked
from empir.errors import EmpirError, ResumeError
from empir.evaluation.threat import Threat
from empir.records import runs
from empir.runtime import progress_bar

log = logging.getLogger("empir")

#: AutoAttack's standard version, in its order.
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
#: The record's norms as AutoAttack calls them.
NORMS = {"linf": "Linf", "l2": "L2"}
SEED = 0
#: Images per call.
BATCH = 200


class State:
    """The progress of AutoAttack, in a file from which the same command continues.

    Args:
      path: of the file.
      description: what determines AutoAttack's result; a state of another one is refused.

    Attributes:
      attacks: per attack that has begun: its name, how many images it has attacked ("attacked"),
        rows of those that are misclassified now ("broken"), seconds, and how often its checks
        warned of what.

    Raises:
      ResumeError: if the file holds the state of another run of AutoAttack, or is damaged.
    """

    def __init__(self, path: str, description: dict):
        self._path, self._description = path, description
        self.attacks = []
        if os.path.lexists(path):
            state = runs.read_json(path)
            before = state.get("run")
            changed = runs.differences(before if isinstance(before, dict) else {}, description)
            if changed:
                raise ResumeError(
                    f"{path} is the state of another run ({'; '.join(changed)}): give another "
                    "--out, or remove it to start over"
                )
            self.attacks = state.get("attacks")
            digest = state.get("sha256", runs.digest(self.attacks))
            if digest != runs.digest(self.attacks) or not self._is_sound():
                raise ResumeError(f"{path} is damaged: remove it to start over")

    def _is_sound(self):
        """Whether the entries are of the form that `attack` makes."""
        rows = range(self._description["images"])
        try:
            return all(
                entry["name"] == name
                and entry["attacked"] in range(len(rows) + 1)
                and all(type(row) is int and row in rows for row in entry["broken"])
                and float(entry["seconds"]) >= 0
                and all(count > 0 for count in entry["warnings"].values())
                for name, entry in zip(ATTACKS + ("no more",), self.attacks)
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return False

    def attack(self, name: str) -> dict:
        """The entry of an attack, made if it is new."""
        if name not in [entry["name"] for entry in self.attacks]:
            self.attacks.append(dict(name=name, attacked=0, broken=[], seconds=0.0, warnings={}))
        return next(entry for entry in self.attacks if entry["name"] == name)

    def save(self):
        """Write the file."""
        state = {"run": self._description, "attacks": self.attacks}
        runs.write_json(self._path, dict(state, sha256=runs.digest(self.attacks)))

    def remove(self):
        """Delete the file, if there is one."""
        if os.path.exists(self._path):
            os.remove(self._path)


class AutoAttack:
    """AutoAttack on the PyTorch networks.

    Args:
      worker: an `autoattack_worker` in its process.
      attacked: images, labels, norm and radius.
      state: what is done; the attacks continue there.
      folder: for files that pass to and from the worker.
      budget: "steps" and "queries" in place of those of the standard version, for tests.

    Attributes:
      correct: bool [n], images that are classified correctly after the attacks so far.
    """

    def __init__(self, worker, attacked: Attacked, state: State, folder: str, budget: dict):
        self._worker, self._attacked, self._state = worker, attacked, state
        self._path, self._budget = os.path.join(folder, "found.npy"), budget
        decisions = np.array(worker.ask("decide")["decisions"])
        self.correct = decisions == attacked.data.labels
        self._accuracies = []

    def run(self, progress: bool):
        """Run the attacks that are not done, each on the images that are still correct.

        Raises:
          EmpirError: if an image that AutoAttack gives is not within the radius.
        """
        for name in ATTACKS:
            remaining, entry = np.flatnonzero(self.correct), self._state.attack(name)
            with progress_bar(len(remaining), name, "image", progress) as bar:
                bar.update(entry["attacked"])
                for start in range(entry["attacked"], len(remaining), BATCH):
                    rows = remaining[start : start + BATCH]
                    self._attack(entry, rows)
                    self._state.save()
                    bar.update(len(rows))
            self.correct[entry["broken"]] = False
            accuracy = float(self.correct.mean())
            self._accuracies.append(accuracy)
            words = (name, entry["attacked"], 100 * accuracy, entry["seconds"])
            log.info("AutoAttack, %s: %d images attacked, %.2f %% correct (%.0f s)", *words)

    def _attack(self, entry, rows):
        record, data = self._attacked.record, self._attacked.data
        setting = dict(self._budget, norm=NORMS[record["norm"]], eps=record["eps"], seed=SEED)
        answer = self._worker.ask(
            "autoattack", attack=entry["name"], rows=rows.tolist(), out=self._path, **setting
        )
        images = np.load(self._path)
        threat = Threat(record["norm"], record["eps"])
        valid = threat.contains(data.images[rows], images, data.clip_range)
        if not valid.all():
            raise EmpirError(
                f"AutoAttack's {entry['name']} gave an invalid image: example {rows[~valid][0]} is "
                f"not finite, not in range, or more than {record['eps']:g} away"
            )
        misclassified = np.array(answer["decisions"]) != data.labels[rows]
        entry["attacked"] += len(rows)
        entry["broken"] += rows[misclassified].tolist()
        entry["seconds"] = round(entry["seconds"] + answer["seconds"], 3)
        for text, count in answer["warnings"].items():
            entry["warnings"][text] = entry["warnings"].get(text, 0) + count

    def describe(self, environment: dict, robust: np.ndarray) -> dict:
        """The record's part about AutoAttack; "correct" is a bit per image, packed, as hexadecimal.

        Args:
          environment: the worker's answer to that command.
          robust: bool [n], images that are correct after the attacks of the robustness run.
        """
        attacks = [
            dict(
                name=entry["name"],
                attacked=entry["attacked"],
                accuracy_after=accuracy,
                seconds=entry["seconds"],
                warnings=entry["warnings"],
            )
            for entry, accuracy in zip(self._state.attacks, self._accuracies)
        ]
        return {
            "package": f"pyautoattack {environment['versions']['pyautoattack']}",
            "version": "reduced" if self._budget else "standard",
            "seed": SEED,
            "batch_size": BATCH,
            "attacks": attacks,
            "accuracy": float(self.correct.mean()),
            "correct": np.packbits(self.correct).tobytes().hex(),
            "broken_by_it_alone": int((robust & ~self.correct).sum()),
            "broken_by_suite_alone": int((self.correct & ~robust).sum()),
        }
