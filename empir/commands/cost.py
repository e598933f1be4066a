"""What an ensemble costs beside one full-precision network: memory, and work per image.

    empir cost --dataset=cifar10 --members=w4a2,w2a2/w2a2/w4a4,fp --layers
    empir cost --dataset=all --out=results/cost.json

The costs are counted from the networks' layers; the module empir.nn.cost has the rules. The last
lines of a table are the ensemble's overhead over one full-precision network, and what the paper
claims of it.
"""

from typing import Sequence

from absl import flags

from empir import runtime
from empir.commands.flag_types import define_count
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.nn import architecture
from empir.nn.cost import ensemble_cost
from empir.nn.precision import parse_layers
from empir.records import runs
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
    flags.DEFINE_string("dataset", "mnist", "whose networks: %s, all" % ", ".join(EXPERIMENTS))
    flags.DEFINE_list(
        "members", None, "precisions, e.g. w2a4,w2a4/w2a2/fp,fp; default: the paper's"
    )
    define_count("nb_filters", None, "width; default: the network's")
    flags.DEFINE_bool("layers", False, "each member's layers too")
    flags.DEFINE_string("out", None, "file for the numbers, JSON; default: none")
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
    if FLAGS.out is not None:
        runs.check_file(FLAGS.out)
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
    if FLAGS.out:
        versions, commit = runtime.provenance()
        record = dict(ensembles=ensembles, command=runtime.command())
        record.update(versions=versions, git_commit=commit)
        runs.write_json(FLAGS.out, record)
    print("\n\n".join(report.terminal(ensemble) for ensemble in ensembles.values()))
