"""Count the images whose outcome changes when only the computation of an attack does.

    python -m benchmarks.flips --dataset=mnist --data_dir=FOLDER --out=results/flips/mnist.json
    python -m benchmarks.flips --dataset=mnist --data_dir=FOLDER \
        --against=results/flips/mnist.json --out=runs/machine.json

PGD attacks the shipped ensemble with the paper's parameters, under both protocols: once as the
records do, and once after each change of `CHANGES`. The outcome of an image is whether the
ensemble's decision on its adversarial image is wrong. Sums of float32 numbers depend on their
order, and forty steps make a difference in the last digit a large one, so that some outcomes change
that no parameter has to do with. Another seed changes outcomes on purpose, which gives the scale.

Each attack is a run of `empir attack` in a process of its own, in a folder below --runs: the same
command goes on where a killed one stopped. --out gets the counts, and beside it, as .npz, the
outcomes. With --against the attacks are run as the record's reference was, here and now, and
compared with its outcomes: that is what another machine changes. --out is not needed then.
"""

import os
import subprocess
import sys
from typing import Dict, NamedTuple

import numpy as np
from absl import flags

from benchmarks.pages import flips as report
from empir.commands import commandline, shared_flags
from empir.commands.shared_flags import define_count
from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.experiments import PROTOCOLS
from empir.records import chunks, provenance, runs
from empir.report import shapes
from empir.runtime import DEFAULT_SEED, ROOT

FLAGS = flags.FLAGS

SCHEMA = 1
ATTACK = "pgd"
#: How the attack is computed if nothing is changed: flags of `empir attack`.
REFERENCE = {"engine": True, "batch_size": 100, "num_threads": 1, "seed": DEFAULT_SEED}
#: What is changed, by the name of the change.
CHANGES: Dict[str, dict] = {
    "kernels": {"engine": False},
    "batch-500": {"batch_size": 500},
    "batch-20": {"batch_size": 20},
    "batch-1": {"batch_size": 1},
    "threads": {"num_threads": 2},
    "seed": {"seed": DEFAULT_SEED + 1},
}
NONE = "none"
#: What --against counts.
MACHINE = "machine"


class Outcomes(NamedTuple):
    """A finished attack.

    Attributes:
      record: its result.json.
      success: bool [n], whether the decision on each adversarial image is wrong.
    """

    record: dict
    success: np.ndarray


def setup():
    """Define the flags; returns the main function."""
    flags.DEFINE_string("dataset", "mnist", "Whose ensemble: mnist or cifar10.")
    shared_flags.define_data("data_dir")
    define_count("nb_samples", 1000, "Number of test images, drawn with each class's share.")
    flags.DEFINE_list("changes", list(CHANGES), "The changes to measure.")
    flags.DEFINE_string("runs", None, "Folder of the attacks. By default runs/flips/DATASET.")
    flags.DEFINE_string("out", None, "JSON file of the result. By default nothing is written.")
    flags.DEFINE_string(
        "against", None, "A record to compare this machine with, in place of --out."
    )
    return main


def main(_):
    """Run the attacks that are missing, count, write the record, and print its table.

    Raises:
      EmpirError: for bad input, or an attack that fails.
    """
    if not FLAGS.out and not FLAGS.against:
        raise EmpirError(
            "give --out, a JSON file for the result, or --against, one to compare with"
        )
    chosen = shared_flags.chosen_experiment(FLAGS.dataset)
    unknown = sorted(set(FLAGS.changes) - set(CHANGES))
    if unknown:
        raise EmpirError(f"--changes={unknown[0]}: choose from {', '.join(CHANGES)}")
    for change in FLAGS.changes:
        size = CHANGES[change].get("batch_size", 0)
        if FLAGS.nb_samples < size and not FLAGS.against:
            least = f"--nb_samples={size} or more"
            raise EmpirError(f"{change} needs {least}: leave it out of --changes")
    folder = FLAGS.runs or os.path.join("runs", "flips", chosen.dataset)
    if FLAGS.out:
        runs.check_file(FLAGS.out)
    if FLAGS.against:
        record, outcomes = _against(chosen, folder, FLAGS.against)
    else:
        found = {
            protocol: {
                change: attack(chosen, protocol, change, folder, FLAGS.nb_samples)
                for change in (NONE, *FLAGS.changes)
            }
            for protocol in PROTOCOLS
        }
        record = make_record(chosen.dataset, found)
        outcomes = {report.key(p, c): one.success for p in found for c, one in found[p].items()}
    if FLAGS.out:
        packed = {name: [np.packbits(success)] for name, success in outcomes.items()}
        chunks.write_npz(os.path.splitext(FLAGS.out)[0] + ".npz", list(packed), packed.__getitem__)
        runs.write_json(FLAGS.out, record)
    print(report.terminal(record))


def attack(chosen, protocol: str, change: str, folder: str, count: int) -> Outcomes:
    """Run an attack into a folder of its own, or take what is there.

    Args:
      chosen: the experiment.
      protocol: of `PROTOCOLS`.
      change: of `CHANGES`, or `NONE`.
      folder: of all attacks.
      count: number of test images.

    Raises:
      EmpirError: if the process fails; its last line says why.
    """
    out = os.path.join(os.path.abspath(folder), f"{protocol}-{change}")
    made = subprocess.run(
        _command(chosen, protocol, change, count) + [f"--out={out}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    if made.returncode:
        raise EmpirError(f"{out}: {(made.stderr.strip() or 'it ended').splitlines()[-1]}")
    record = shapes.read(os.path.join(out, "result.json"), shapes.RESULT)
    images = per_image.read(os.path.join(out, per_image.NAME))
    return Outcomes(record, images.succeeded[ATTACK])


def _command(chosen, protocol, change, count):
    """The words that run an attack, but for its folder."""
    settings = dict(REFERENCE, **CHANGES.get(change, {}))
    members = ",".join(
        f"{precision}:{os.path.join('checkpoints', chosen.dataset, name)}"
        for name, precision in chosen.members
    )
    command = [sys.executable, "-m", "empir", "attack", f"--dataset={chosen.dataset}"]
    command += [f"--attack={ATTACK}", f"--protocol={protocol}", f"--members={members}"]
    command += [f"--nb_samples={count}", "--subset=stratified", "--resume", "--noprogress"]
    if FLAGS.data_dir is not None:
        command.append(f"--data_dir={os.path.abspath(FLAGS.data_dir)}")
    for name, value in settings.items():
        switch = {True: f"--{name}", False: f"--no{name}"}
        command.append(switch[value] if isinstance(value, bool) else f"--{name}={value}")
    return command


def make_record(dataset: str, found: Dict[str, Dict[str, Outcomes]]) -> dict:
    """The record: what was attacked and how, and what each change does.

    Args:
      dataset: name of the dataset.
      found: by protocol and change, `NONE` among the changes.

    Raises:
      EmpirError: if attacks are not of the same images.
    """
    first = next(iter(found.values()))[NONE].record
    if len({one.record["data"]["sha256"] for by in found.values() for one in by.values()}) > 1:
        raise EmpirError("the attacks are not of the same images: remove the folder --runs")
    changes = [
        dict(
            report.count(by[NONE].success, by[change].success),
            protocol=protocol,
            change=change,
            settings=CHANGES[change],
        )
        for protocol, by in found.items()
        for change in by
        if change != NONE
    ]
    return _record(dataset, first, changes)


def _record(dataset, first, changes, against=None, **more):
    """What was attacked, as the first attack's record says, and how outcomes change.

    `against` is the processor that another machine's outcomes are of.
    """
    return dict(
        schema=SCHEMA,
        dataset=dataset,
        members=first["members"],
        attack={name: first["attack"][name] for name in ("name", "eps", "eps_iter", "nb_iter")},
        num_examples=first["num_examples"],
        data={name: value for name, value in first["data"].items() if name != "source"},
        reference=REFERENCE,
        changes=changes,
        processor=provenance.processor(),
        against=against,
        versions=first["versions"],
        git_commit=first["git_commit"],
        command=provenance.command(),
        **more,
    )


def _against(chosen, folder, path):
    """The record of what this machine changes of a record's reference, and the outcomes of both."""
    told, kept = report.read(path)
    changes, outcomes = [], {}
    for protocol in PROTOCOLS:
        here = attack(chosen, protocol, NONE, folder, told["num_examples"])
        if here.record["data"]["sha256"] != told["data"]["sha256"]:
            raise EmpirError(f"{path} is of other images than those of --data_dir")
        before = kept[report.key(protocol, NONE)]
        counted = report.count(before, here.success)
        changes.append(dict(counted, protocol=protocol, change=MACHINE, settings={}))
        outcomes[report.key(protocol, NONE)] = before
        outcomes[report.key(protocol, MACHINE)] = here.success
    there = {name: told[name] for name in ("versions", "git_commit")}
    record = _record(
        chosen.dataset, here.record, changes, against=told["processor"], compared_with=there
    )
    return record, outcomes


if __name__ == "__main__":
    commandline.run_main(setup)
