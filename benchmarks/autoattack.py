"""Check a run of `empir robustness` from outside: in PyTorch, and with AutoAttack.

    python -m benchmarks.autoattack --run=runs/robustness --data_dir=FOLDER --out=FILE.json

The members' weights go to PyTorch networks (`autoattack_worker`), which must give the same logits.
They tell which of the run's adversarial images fool them too. Then AutoAttack (Croce and Hein 2020,
arXiv 2003.01690), the authors' package in its standard version, attacks them with the run's norm
and radius, each of its attacks seeing the images that those before it left. What is done stands in
FILE.json.partial meanwhile, from which the same command goes on.
"""

import logging
import os
from typing import Optional

import numpy as np
from absl import flags

from benchmarks import comparison, protocol
from benchmarks.robustness_run import HEAD, Attacked, inside, read_images, read_record
from empir import runtime
from empir.commands import commandline, data_flags
from empir.commands import flags as empir_flags
from empir.commands.flag_types import define_count
from empir.data import Dataset
from empir.errors import EmpirError, ResumeError
from empir.experiments import EXPERIMENTS
from empir.nn import architecture
from empir.nn.precision import Precision
from empir.records import clone, runs
from empir.runtime import ROOT, progress_bar

FLAGS = flags.FLAGS
log = logging.getLogger("empir")

SCHEMA = 1
#: AutoAttack's standard version, in its order.
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
#: The record's norms as AutoAttack calls them.
NORMS = {"linf": "Linf", "l2": "L2"}
SEED = 0
BATCH = 200  # images per call
WORKER = os.path.join(ROOT, "benchmarks", "autoattack_worker.py")


def setup():
    """Define the flags; returns the main function."""
    flags.DEFINE_string("run", None, "folder that was --out of empir robustness; no default")
    data_flags.define_data("data_dir")
    data_flags.define_own_data("data_dir")
    flags.DEFINE_bool("sample", False, "as of the run: images embedded in the repository")
    define_count("nb_samples", None, "the first n of the run's images; default: all")
    flags.DEFINE_string("out", None, "JSON file of the result, which has no default")
    flags.DEFINE_string("pytorch", None, "Python with PyTorch; default: .venv-pytorch/bin/python")
    empir_flags.define_threads()
    flags.DEFINE_bool("progress", True, "progress bars on a terminal")
    return main


def main(_):
    """Check the run, write the record, and print it in short.

    Raises:
      EmpirError: for bad input; `process.exit_with` prints it as one line.
    """
    for name, what in (("run", "the folder of a run"), ("out", "a JSON file for the result")):
        if not FLAGS[name].value:
            raise EmpirError("--%s is missing: name %s" % (name, what))
    runs.check_file(FLAGS.out)
    pytorch = comparison.pytorch_program(FLAGS.pytorch)
    record = read_record(FLAGS.run)
    runtime.configure(FLAGS.num_threads)
    data = data_flags.load_data(_experiment(record), "test", FLAGS.sample)
    attacked = read_images(FLAGS.run, record, data, FLAGS.nb_samples)
    record = check(attacked, pytorch, FLAGS.out, progress=FLAGS.progress)

    from empir.report.autoattack import terminal

    print(terminal(record))


def _experiment(record):
    """The experiment on the record's network, which may have been attacked on own data."""
    (found,) = (e for e in EXPERIMENTS.values() if e.architecture == record["architecture"])
    return found


def check(
    attacked: Attacked,
    pytorch: str,
    out: str,
    progress: bool = True,
    budget: Optional[dict] = None,
) -> dict:
    """Check a run from outside; returns the record, which it writes to `out`.

    Args:
      attacked: see `read_images`.
      pytorch: Python of the PyTorch environment.
      out: path of the record; what is done meanwhile stands beside it, and is gone on from.
      progress: show progress bars.
      budget: "steps" and "queries" of AutoAttack, for tests; None = its standard version.

    Raises:
      ResumeError: if another check is under way at `out`, or what one left there is damaged.
      EmpirError: if a member's weights are not the run's, or PyTorch's networks compute other
        logits, or AutoAttack leaves the ball.
    """
    with runs.lock_file(out), runs.temporary_folder() as folder:
        return _check(attacked, pytorch, out, folder, progress, budget)


def _check(attacked, pytorch, out, folder, progress, budget):
    """What `check` does with an `out` that nothing else uses and a folder for files on the way."""
    record, data = attacked.record, attacked.data
    workload = os.path.join(folder, "workload.npz")
    logits = export(record, data, workload)
    clean = logits.argmax(axis=1) == data.labels
    threads = "--threads=%d" % runtime.threads()
    with comparison.started({"PyTorch": [pytorch, WORKER, workload, threads]}) as workers:
        worker = workers["PyTorch"]
        difference = comparison.compare_logits(worker, logits[: protocol.JUDGED])
        environment = worker.ask("environment")
        transferred = _transferred(worker, attacked, clean & attacked.found, folder)
        state = State(out + ".partial", _description(attacked, environment, budget))
        auto = AutoAttack(worker, attacked, state, folder, budget or {})
        auto.run(progress)
    withstood = clean & ~attacked.found
    if len(withstood) == record["num_examples"]:
        told, measured = record.get("worst_case_accuracy"), float(withstood.mean())
        if told != measured:
            log.info("the run's worst case: %s in its record, %s by its images", told, measured)
    versions, commit = runtime.provenance()
    result = dict(
        {key: record[key] for key in HEAD},
        schema=SCHEMA,
        images=len(withstood),
        clean_accuracy=float(clean.mean()),
        suite_accuracy=float(withstood.mean()),
        logits=difference,
        transferred=transferred,
        autoattack=auto.describe(environment, withstood),
        stronger_by=100 * (int(withstood.sum()) - int(auto.correct.sum())) / len(withstood),
        versions={"tensorflow": versions, "pytorch": environment["versions"]},
        git_commit=commit,
        command=runtime.command(),
    )
    runs.write_json(out, result)
    state.remove()
    return result


def export(record: dict, data: Dataset, path: str) -> np.ndarray:
    """Write the workload of a run's members; returns TensorFlow's mean logits [n, classes].

    Raises:
      CheckpointError: see `loading.load_member`.
      EmpirError: if a checkpoint's weights are not those of the run.
    """
    from empir.models.ensemble import Ensemble, mean_logits
    from empir.runtime import tf

    network = architecture(record["architecture"])
    specs = [
        (
            "model%d" % number,
            Precision.of(member["weight_bits"], member["activation_bits"]),
            _checkpoint(member["path"]),
        )
        for number, member in enumerate(record["members"], 1)
    ]
    with tf.Graph().as_default(), runtime.session(operations=1) as session:
        members = comparison.load(network, specs, session, **record.get("options", {}))
        for member, told in zip(members, record["members"]):
            if member.sha256 != told["sha256"]:
                raise EmpirError("%s holds other weights than the run attacked" % told["path"])
        workload = comparison.make_workload(network, members, data, session)
        protocol.write_workload(path, workload)
        images = tf.placeholder(tf.float32, (None,) + workload.images.shape[1:])
        logits = mean_logits(Ensemble(members, record["combine"]).member_logits(images))
        starts = range(0, len(workload.labels), BATCH)
        return np.concatenate(
            [session.run(logits, {images: workload.images[i : i + BATCH]}) for i in starts]
        )


def _checkpoint(path):
    """A checkpoint's path as the run gave it, or else in this checkout."""
    there = any(os.path.exists(path + end) for end in ("", ".index"))
    return path if there else os.path.join(clone.root(), path)


def _transferred(worker, attacked, broken, folder) -> dict:
    """How many adversarial images of images that were correct fool PyTorch's networks."""
    path = os.path.join(folder, "adversarial.npy")
    np.save(path, attacked.adversarial)
    decisions = np.array(worker.ask("decide", images=path)["decisions"])
    fooled = broken & (decisions != attacked.data.labels)
    return {"images": int(broken.sum()), "adversarial": int(fooled.sum())}


def _description(attacked, environment, budget) -> dict:
    """What determines AutoAttack's result."""
    return dict(
        {key: attacked.record[key] for key in HEAD},
        images=len(attacked.found),
        seed=SEED,
        batch_size=BATCH,
        budget=budget,
        versions=environment["versions"],
    )


class State:
    """What AutoAttack has done so far, in a file.

    Attributes:
      attacks: per attack begun: its name, how many of the images left before it it attacked so
        far, rows of those that it broke, seconds, and what its checks warned of how often.

    Raises:
      ResumeError: if the file holds the state of another check, or no such state.
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
                    "%s is the state of another check (%s): give another --out, or remove it to "
                    "start over" % (path, "; ".join(changed))
                )
            self.attacks = state.get("attacks")
            told = state.get("sha256", runs.digest(self.attacks))
            if told != runs.digest(self.attacks) or not self._is_sound():
                raise ResumeError("%s is damaged: remove it to start over" % path)

    def _is_sound(self):
        """Whether the attacks are such as `attack` makes and a check fills in."""
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
    """AutoAttack on PyTorch's networks, from where its state is.

    Args:
      worker: the PyTorch side.
      attacked: images, labels, norm and radius.
      state: what is done.
      folder: for files that pass between the sides.
      budget: see `check`.

    Attributes:
      correct: bool [n], images that are correct when clean and after the attacks so far.
    """

    def __init__(self, worker, attacked: Attacked, state: State, folder: str, budget: dict):
        self._worker, self._attacked, self._state = worker, attacked, state
        self._path, self._budget = os.path.join(folder, "found.npy"), budget
        decisions = np.array(worker.ask("decide")["decisions"])
        self.correct = decisions == attacked.data.labels
        self._accuracies = []

    def run(self, progress: bool):
        """Run the attacks that are not done, each on the images that are left."""
        for name in ATTACKS:
            left, entry = np.flatnonzero(self.correct), self._state.attack(name)
            with progress_bar(len(left), name, "image", progress) as bar:
                bar.update(entry["attacked"])
                for start in range(entry["attacked"], len(left), BATCH):
                    rows = left[start : start + BATCH]
                    self._attack(entry, rows)
                    self._state.save()
                    bar.update(len(rows))
            self.correct[entry["broken"]] = False
            self._accuracies.append(float(self.correct.mean()))
            words = (name, entry["attacked"], 100 * self.correct.mean(), entry["seconds"])
            log.info("AutoAttack, %s: %d images attacked, %.2f %% correct (%.0f s)", *words)

    def _attack(self, entry, rows):
        record, data = self._attacked.record, self._attacked.data
        setting = dict(self._budget, norm=NORMS[record["norm"]], eps=record["eps"], seed=SEED)
        answer = self._worker.ask(
            "autoattack", attack=entry["name"], rows=rows.tolist(), out=self._path, **setting
        )
        images, broken = np.load(self._path), np.array(answer["decisions"]) != data.labels[rows]
        valid = inside(data.images[rows], images, record["eps"], record["norm"], data.clip_range)
        if not valid.all():
            raise EmpirError(
                "AutoAttack's %s gave an invalid image: example %d is not finite, not in range, or "
                "more than %g away" % (entry["name"], rows[~valid][0], record["eps"])
            )
        entry["attacked"] += len(rows)
        entry["broken"] += rows[broken].tolist()
        entry["seconds"] = round(entry["seconds"] + answer["seconds"], 3)
        for text, count in answer["warnings"].items():
            entry["warnings"][text] = entry["warnings"].get(text, 0) + count

    def describe(self, environment: dict, withstood: np.ndarray) -> dict:
        """The result as plain data, beside bool [n]: what withstood the run."""
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
            "package": "pyautoattack " + environment["versions"]["pyautoattack"],
            "version": "reduced" if self._budget else "standard",
            "seed": SEED,
            "batch_size": BATCH,
            "attacks": attacks,
            "accuracy": float(self.correct.mean()),
            "broken_by_it_alone": int((withstood & ~self.correct).sum()),
            "broken_by_suite_alone": int((self.correct & ~withstood).sum()),
        }


if __name__ == "__main__":
    commandline.run_main(setup)
