"""Reproduce a dataset's rows of the paper's table: both models, four attacks, both protocols.

    empir reproduce --dataset=mnist --data_dir=FOLDER --out=results/mnist
    empir reproduce --dataset=mnist --sample --out=runs/quickstart

Every evaluation is a folder below --out with result.json and examples.npz. Finished ones are kept
and a killed one continues where it stopped, so the same command resumes. The table of all of them
is printed at the end.
"""

import logging
import os

from absl import flags

from empir import published, runtime
from empir.commands import cluster_flags, shared_flags
from empir.commands.shared_flags import define_count, define_texts
from empir.data import subsets
from empir.errors import EmpirError
from empir.experiments import PROTOCOLS, TABLE_ATTACKS, default_parameters, experiment
from empir.models import checkpoints
from empir.models.checkpoints import MemberSpec
from empir.records import locks, runs
from empir.report import tables
from empir.report.results import ROWS

log = logging.getLogger("empir")
FLAGS = flags.FLAGS

#: Attacks of one step; the others take tens of times as long.
FAST_ATTACKS = ("fgsm",)


def setup():
    """Define the flags; returns the main function."""
    shared_flags.define_command()
    define_texts(
        members_dir="The folder that holds a checkpoint of each member. By default it is "
        "checkpoints/DATASET.",
        members="An older name of --members_dir, with the same default.",
        out="The folder of the records. By default it is results/DATASET.",
    )
    text = "The number of test images to attack; --subset says which. By default all are attacked."
    define_count("nb_samples", None, text)
    shared_flags.define_subset(subsets.FIRST)
    cluster_flags.define_shard()
    cluster_flags.define_scheduler()
    text = "The number of these that CW, BIM and PGD attack. By default it is the same number."
    define_count("slow_samples", None, text)
    return run


def run(_):
    """Evaluate every row and attack, resuming what is there, and print the table.

    Raises:
      EmpirError: for bad input; `process.exit_with` prints it as one line.
    """
    chosen = experiment(FLAGS.dataset)
    out = os.path.join("results", chosen.dataset) if FLAGS.out is None else FLAGS.out
    runs.check_writable(out)
    shard = cluster_flags.shard()
    folder = _members(chosen)
    batch_size = chosen.attack_batch or chosen.batch_size
    runtime.configure(cluster_flags.threads(), batch_size)
    fast, slow = _images(chosen)
    load = shared_flags.loader(chosen, "test", FLAGS.sample)
    steps = [(row, attack) for row in ROWS for attack in TABLE_ATTACKS]
    with locks.lock(out), cluster_flags.cluster() as cluster:
        for number, (row, attack) in enumerate(steps, 1):
            data = fast if attack in FAST_ATTACKS else slow
            source = _source(chosen, row, folder)
            place = cluster(source, data, load, batch_size)
            how = dict(out=os.path.join(out, row.folder, attack), shard=shard, place=place)
            result = _evaluate(chosen, row, attack, source, data, **how)
            if result is not None:
                _log(f"[{number}/{len(steps)}] {row.title}, {attack}", result.record)
    if shard is None:
        print(tables.terminal(out, chosen))


def _images(chosen):
    """The test images for the attacks of one step, and for the others."""
    data = shared_flags.load_data(chosen, "test", FLAGS.sample)
    count = len(data.labels) if FLAGS.nb_samples is None else FLAGS.nb_samples
    fast = shared_flags.take(data, count, subsets.FIRST)
    if FLAGS.slow_samples is None:
        return fast, fast
    if FLAGS.slow_samples > len(fast.labels):
        raise EmpirError(f"--slow_samples={FLAGS.slow_samples} is more than --nb_samples")
    return fast, shared_flags.take(data, FLAGS.slow_samples, subsets.FIRST)


def _members(chosen):
    """Folder of the members; `EmpirError` if one of them is not there."""
    if None not in (FLAGS.members_dir, FLAGS.members):
        raise EmpirError("--members_dir and --members are the same: drop --members")
    folder = FLAGS.members if FLAGS.members_dir is None else FLAGS.members_dir
    if folder is None:
        own = os.path.join("checkpoints", chosen.dataset)
        folder = published.shipped(own, "--members_dir=FOLDER")
    elif not os.path.isdir(folder):
        folder = os.path.join(published.clone(), folder)
    for name, _ in chosen.members:
        checkpoints.find_prefix(os.path.join(folder, name))
    return folder


def _source(chosen, row, folder):
    """The networks of a row."""
    from empir.evaluation.subjects import Source

    wanted = chosen.members[-1:] if row.model == "baseline" else chosen.members
    specs = (MemberSpec(precision, os.path.join(folder, name)) for name, precision in wanted)
    return Source(
        architecture=chosen.architecture,
        members=tuple(specs),
        combine=PROTOCOLS[row.protocol].combine,
        attack_target=PROTOCOLS[row.protocol].attack_target,
        seed=chosen.seed,
    )


def _evaluate(chosen, row, attack, source, data, *, out, shard, place):
    """The result of one attack on a row's networks; None of a shard."""
    from empir.evaluation.single import Job, evaluate

    batch_size = min(chosen.attack_batch or chosen.batch_size, len(data.labels))
    # A graph of its own: TensorFlow optimizes all of a graph anew for each addition to it.
    with source.open(data) as networks:
        job = Job(
            ensemble=networks.ensemble,
            attack=attack,
            parameters=default_parameters(chosen, attack, batch_size),
            data=data,
            seed=chosen.seed,
            batch_size=batch_size,
            architecture=chosen.architecture,
            protocol=row.protocol,
            shares=runtime.share_count(),
        )
        return evaluate(job, networks.session, out, True, FLAGS.progress, shard, place)


def _log(title, record):
    seconds = record["seconds"]["clean"] + record["seconds"]["attack"]
    log.info(
        f"{title}: clean {record['clean_accuracy']:.4f}, adversarial "
        f"{record['adversarial_accuracy']:.4f} ({record['num_examples']} images, {seconds:.0f} s)"
    )
