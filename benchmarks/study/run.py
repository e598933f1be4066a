"""Make what is missing of the study's records: trainings and evaluations, each by a command."""

import fnmatch
import logging
import os

from absl import flags

from benchmarks import commands
from benchmarks.study import adversarial, plan
from empir import load_dataset, published
from empir.commands import shared_flags
from empir.data import convert
from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.models import checkpoint_files
from empir.records import runs

log = logging.getLogger("empir")
FLAGS = flags.FLAGS

#: Of pictures: each split, as `empir convert` calls it, and the number of its TFRecord files.
SPLITS = {"train": 8, "val": 1}
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
    shared_flags.define_count("nb_samples", plan.IMAGES, "test images of every evaluation")
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
            if not _is_trained(training)
        ]
    return [one.name for one in missing]


def _record(part, name):
    return os.path.join(FLAGS.results, part, name + ".json")


def _weights(training):
    """Folder of a training's weights: the shipped ones if they are of it."""
    if training.shipped:
        return training.shipped
    return os.path.join(FLAGS.runs, "trainings", training.dataset, training.name)


def _is_trained(training):
    folder = _weights(training)
    if training.defended:
        return adversarial.is_over(adversarial.checks(folder))
    is_begun = os.path.isdir(os.path.join(folder, runs.TRAINING))
    return checkpoint_files.has_checkpoint(folder) and not is_begun


def train(training: plan.Training) -> str:
    """Train a network, or go on, unless that is done; returns the folder of its weights.

    Raises:
      EmpirError: if the command fails.
    """
    folder, dataset = _weights(training), training.dataset
    if not _is_trained(training):
        runs.make_folder(folder)
        if training.defended:
            adversarial.train(training, folder, _held_out(dataset), _threads(), commands.run)
        else:
            command = ["train", "--resume", f"--model_path={folder}", *training.flags()]
            commands.run("empir", *command, *_where(dataset))
    if not training.shipped:
        kept = os.path.join(FLAGS.results, "trainings", f"{dataset}-{training.name}.json")
        record = runs.read_json(os.path.join(folder, "training.json"))
        if training.defended:
            record["validation"] = adversarial.checks(folder)
        runs.write_json(kept, record)
    return folder


def _held_out(dataset):
    """The file of `adversarial.hold_out`, made unless it is there."""
    path = os.path.join(FLAGS.runs, f"{dataset}-held-out.npz")
    if not os.path.exists(path):
        folder = commands.data_folder(FLAGS.data_dir, dataset)
        adversarial.hold_out(load_dataset(dataset, folder, "train"), path)
    return path


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
    commands.run("empir", *command)
    record = _record(part, one.name)
    runs.make_folder(os.path.dirname(record))
    with open(os.path.join(out, per_image.NAME), "rb") as file:
        runs.write_atomically(record[: -len(".json")] + ".npz", file.read())
    runs.write_json(record, runs.read_json(os.path.join(out, "result.json")))


def make_pictures() -> str:
    """Make the TFRecords of `plan.PICTURES` unless they are there; returns their folder.

    Raises:
      EmpirError: if a command fails.
    """
    jpegs, records = (os.path.join(FLAGS.runs, plan.PICTURES, name) for name in ("jpeg", "records"))
    missing = [split for split in SPLITS if not convert.is_finished(records, split)]
    if missing:
        counts = f"--train_images={plan.PICTURES_TRAINED}", f"--test_images={plan.IMAGES}"
        words = [f"--out={jpegs}", *counts, "--noprogress", *_files("cifar10")]
        commands.run("benchmarks.study.pictures", *words)
    for split in missing:
        words = [f"--source={os.path.join(jpegs, split)}", f"--split={split}", f"--out={records}"]
        commands.run("empir", "convert", *words, f"--shards={SPLITS[split]}", "--noprogress")
    return records


def _where(dataset):
    """Flags of all commands on a dataset."""
    return ["--noprogress", *_files(dataset), *_threads()]


def _threads():
    return [f"--num_threads={FLAGS.num_threads}"] if FLAGS.num_threads else []


def _files(dataset):
    if dataset == plan.PICTURES:
        return [f"--data_dir={make_pictures()}"]
    folder = commands.data_folder(FLAGS.data_dir, dataset)
    return [f"--data_dir={folder}"] if folder else []
