"""What an ensemble costs beside one full-precision network: memory, and work per image.

    empir cost --dataset=cifar10 --members=w4a2,w2a2/w2a2/w4a4,fp --layers
    empir cost --dataset=all --out=results/cost.json

The costs are counted from the networks' layers; the module empir.nn.cost has the rules. The last
lines of a table are the ensemble's overhead over one full-precision network, and what the paper
claims of it.
"""

import os
from typing import Sequence

from absl import flags

from empir.commands import shared_flags
from empir.commands.shared_flags import define_count, define_switches, define_texts
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.nn import architecture
from empir.nn.cost import ensemble_cost
from empir.nn.precision import parse_layers
from empir.records import provenance, runs
from empir.report import cost as report

FLAGS = flags.FLAGS
ALL = "all"


def parse_members(items: Sequence[str]):
    """Pairs of a member's text and precision from items like "w2a4", "w2a4/w2a2/fp" or "fp:PATH".

    The paths that the members of an attack have are ignored.

    Raises:
      EmpirError: for no items, or one that is no precision.
    """
    if not items:
        raise EmpirError("--members names none: write precisions, e.g. --members=w2a4,w2a4,fp")
    texts = [item.split(":")[0] for item in items]
    return tuple((text, parse_layers(text)) for text in texts)


def setup():
    """Define the flags; returns the main function."""
    known = ", ".join([*EXPERIMENTS, ALL])
    flags.DEFINE_string("dataset", "mnist", f"The dataset whose network is counted: {known}.")
    shared_flags.define_members(
        "Checkpoints are not read and can be left out, as in w2a4,w2a4/w2a2/fp,fp. By default they "
        "are the paper's members."
    )
    text = "The width of the members. By default it is their network's."
    define_count("nb_filters", None, text)
    define_switches(layers="Show the layers of each member, too.")
    define_texts(
        out="The folder for cost.json, or a name of its own for that file, which ends in .json. By "
        "default nothing is kept."
    )
    return run


def run(_):
    """Count, write the file, and print.

    Raises:
      EmpirError: for an unknown dataset, bad precisions, or an --out that cannot be written.
    """
    if FLAGS.dataset not in EXPERIMENTS and FLAGS.dataset != ALL:
        known = ", ".join(EXPERIMENTS)
        raise EmpirError(f"--dataset={FLAGS.dataset}: choose from {known}, {ALL}")
    members = None if FLAGS.members is None else parse_members(FLAGS.members)
    path = FLAGS.out
    if path is not None:
        path = path if path.endswith(".json") else os.path.join(path, "cost.json")
        runs.check_file(path)
    chosen = EXPERIMENTS.values() if FLAGS.dataset == ALL else [EXPERIMENTS[FLAGS.dataset]]
    ensembles = {
        experiment.dataset: ensemble_cost(
            architecture(experiment.architecture),
            experiment.members if members is None else members,
            FLAGS.nb_filters,
            FLAGS.layers,
        )
        for experiment in chosen
    }
    if path is not None:
        runs.write_json(path, dict(ensembles=ensembles, **provenance.of_run()))
    print("\n\n".join(report.terminal(ensemble) for ensemble in ensembles.values()))
