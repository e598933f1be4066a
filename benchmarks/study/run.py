"""Make what is missing of the study's records: trainings and evaluations, each by a command."""

import fnmatch
import logging
import os
import subprocess
import sys

from absl import flags

from benchmarks.study import plan
from empir import published
from empir.commands import shared_flags
from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.models import checkpoint_files
from empir.records import runs
from empir.runtime import ROOT

log = logging.getLogger("empir")
FLAGS = flags.FLAGS

#: Folder of each dataset's files below --data_dir.
DATA = {"mnist": "mnist", "cifar10": "cifar-10-batches-bin"}
KINDS = ("all", "table", "suite", "trainings")


def setup():
    """Define the flags; returns the main function."""
    flags.DEFINE_enum("part", None, list(plan.PARTS), "the part; default: all, in this order")
    flags.DEFINE_string("data_dir", None, "folder that holds mnist and cifar-10-batches-bin")
    flags.DEFINE_string("runs", os.path.join("runs", "study"), "folder for weights and runs")
    flags.DEFINE_string("results", os.path.join("results", "study"), "folder for records")
    flags.DEFINE_enum("kind", "all", KINDS, "only evaluations of a kind, or trainings alone")
    flags.DEFINE_string(
        "only", "*", "only evaluations whose names fit this pattern, as mnist-*-vote"
    )
    shared_flags.define_count("nb_samples", 1000, "test images of every evaluation")
    flags.DEFINE_bool("list", False, "print the names of what is missing, and make nothing")
    flags.DEFINE_string("scheduler", None, "--scheduler of the evaluations")
    shared_flags.define_threads()
    return run


def run(_):
    """Make the part that is named, or all; returns the exit status.

    Raises:
      EmpirError: if no evaluation has such a name, or a command fails.
    """
    published.require_clone("the study")
    chosen = {
        part: [
            one
            for one in plan.evaluations(part)
            if fnmatch.fnmatchcase(one.name, FLAGS.only)
            and FLAGS.kind in ("all", "trainings", one.kind)
        ]
        for part in ([FLAGS.part] if FLAGS.part else plan.PARTS)
    }
    if not any(chosen.values()):
        raise EmpirError(f"--only={FLAGS.only}: no evaluation has such a name (--list names all)")
    for part, evaluations in chosen.items():
        missing = [one for one in evaluations if not os.path.exists(_record(part, one.name))]
        if FLAGS.list:
            for name in _listed(missing):
                print(name)
            continue
        for training in plan.trainings(missing) if FLAGS.kind == "trainings" else ():
            train(training)
        for one in missing if FLAGS.kind != "trainings" else ():
            evaluate(part, one)
    return 0


def _listed(missing):
    if FLAGS.kind == "trainings":
        return [
            f"{training.dataset} {training.name}"
            for training in plan.trainings(missing)
            if not checkpoint_files.has_checkpoint(_weights(training))
        ]
    return [one.name for one in missing]


def _record(part, name):
    return os.path.join(FLAGS.results, part, name + ".json")


def _weights(training):
    """Folder of a training's weights: the shipped ones if they are of it."""
    if training.shipped:
        return training.shipped
    return os.path.join(FLAGS.runs, "trainings", training.dataset, training.name)


def train(training: plan.Training) -> str:
    """Train a network, or go on, unless that is done; returns the folder of its weights.

    Raises:
      EmpirError: if the command fails.
    """
    folder = _weights(training)
    state = os.path.join(folder, runs.TRAINING)
    if not checkpoint_files.has_checkpoint(folder) or os.path.isdir(state):
        runs.make_folder(folder)
        command = ["train", "--resume", f"--model_path={folder}", *training.flags()]
        _empir([*command, *_where(training.dataset)])
    if not training.shipped:
        kept = os.path.join(FLAGS.results, "trainings", f"{training.dataset}-{training.name}.json")
        runs.make_folder(os.path.dirname(kept))
        runs.write_json(kept, runs.read_json(os.path.join(folder, "training.json")))
    return folder


def evaluate(part: str, one: plan.Evaluation):
    """Make an evaluation, or go on, and the trainings that it needs; keep its record.

    Raises:
      EmpirError: if a command fails.
    """
    folders = [train(training) for training in one.members]
    out = os.path.join(FLAGS.runs, part, one.name)
    command = [*one.command(folders, FLAGS.nb_samples), f"--out={out}", *_where(one.dataset)]
    if FLAGS.scheduler:
        command.append(f"--scheduler={FLAGS.scheduler}")
    _empir(command)
    record = _record(part, one.name)
    runs.make_folder(os.path.dirname(record))
    with open(os.path.join(out, per_image.NAME), "rb") as file:
        runs.write_atomically(record[: -len(".json")] + ".npz", file.read())
    runs.write_json(record, runs.read_json(os.path.join(out, "result.json")))


def _where(dataset):
    flags_of_all = ["--noprogress"]
    if FLAGS.data_dir:
        flags_of_all.append(f"--data_dir={os.path.join(FLAGS.data_dir, DATA[dataset])}")
    if FLAGS.num_threads:
        flags_of_all.append(f"--num_threads={FLAGS.num_threads}")
    return flags_of_all


def _empir(words):
    """Run a command of `empir`, whose messages go on to standard error."""
    log.info("empir %s", " ".join(words))
    status = subprocess.call([sys.executable, "-m", "empir", *words], cwd=ROOT, stdout=sys.stderr)
    if status:
        raise EmpirError(f"empir {words[0]} ended with status {status}: see its message above")
