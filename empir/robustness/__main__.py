"""What an ensemble withstands: a suite of adaptive attacks, worst case per image.

    python -m empir.robustness --dataset=mnist --data_dir=FOLDER --out=runs/robustness
    python -m empir.robustness --dataset=cifar10 --members=w2a2:PATH,fp:PATH --eps=0.0313 --out=DIR

--out gets result.json, report.md, and per attack a folder with its record and its images. The same
command goes on where it stopped.
"""

import contextlib
import os

from absl import flags

from empir import flags as empir_flags
from empir import runs, runtime
from empir.errors import EmpirError
from empir.models import architecture
from empir.precision import per_layer
from empir.protocols import experiment

FLAGS = flags.FLAGS


def setup():
    """Define the flags; returns the main function."""
    empir_flags.define_command()
    empir_flags.define_members("default: the dataset's in checkpoints")
    flags.DEFINE_string("combine", "mean_logits", "decision rule: mean_logits, mean_probs, vote")
    flags.DEFINE_integer("nb_filters", None, "width; default: the network's", lower_bound=1)
    flags.DEFINE_float("eps", None, "radius; default: the paper's (L-infinity)")
    flags.DEFINE_string("norm", "linf", "linf or l2")
    flags.DEFINE_integer("nb_samples", 1000, "the first n test images", lower_bound=1)
    flags.DEFINE_integer("batch_size", 100, "images per graph call", lower_bound=1)
    flags.DEFINE_integer("seed", runtime.DEFAULT_SEED, "of everything random", lower_bound=0)
    flags.DEFINE_string("out", None, "folder of the records and the report")
    return run


def run(_):
    """Evaluate, write the report, and print its table.

    Raises:
      EmpirError: for bad input; `runtime.run_main` prints it as one line.
    """
    chosen = experiment(FLAGS.dataset)
    if not FLAGS.out:
        raise EmpirError("--out is missing: name a folder for the records and the report")
    if FLAGS.eps is None and FLAGS.norm != "linf":
        raise EmpirError("--norm=%s needs --eps, the radius in that norm" % FLAGS.norm)
    runs.check_writable(FLAGS.out)
    specs = _members(chosen)
    runtime.configure(FLAGS.num_threads)
    data = empir_flags.load_data(chosen, "test", FLAGS.sample).first(FLAGS.nb_samples)

    from empir.report import robustness as report
    from empir.robustness import suite

    setting = suite.Setting(
        open=lambda: _opened(chosen, specs),
        data=data,
        eps=chosen.eps if FLAGS.eps is None else FLAGS.eps,
        norm=FLAGS.norm,
        seed=FLAGS.seed,
        batch_size=min(FLAGS.batch_size, len(data.labels)),
        architecture=chosen.architecture,
    )
    outcome = suite.run(setting, FLAGS.out, progress=FLAGS.progress)
    path = os.path.join(FLAGS.out, "report.md")
    runs.write_atomically(path, report.markdown(outcome.record) + "\n")
    print(report.terminal(outcome.record))


def _members(chosen):
    if FLAGS.members is not None:
        return empir_flags.listed_members()
    folder = runtime.in_checkout(os.path.join("checkpoints", chosen.dataset))
    return [
        empir_flags.MemberSpec(precision, os.path.join(folder, name))
        for name, precision in chosen.members
    ]


@contextlib.contextmanager
def _opened(chosen, specs):
    from empir.backend import tf
    from empir.ensemble import Ensemble
    from empir.loading import load_member

    network = architecture(chosen.architecture)
    options = {} if FLAGS.nb_filters is None else {"nb_filters": FLAGS.nb_filters}
    with tf.Graph().as_default(), runtime.session(operations=1) as session:
        members = [
            load_member(
                network,
                per_layer(spec.precision, len(network.quantized_layers)),
                spec.path,
                session,
                "model%d" % number,
                **options,
            )
            for number, spec in enumerate(specs, 1)
        ]
        yield session, Ensemble(members, FLAGS.combine)


if __name__ == "__main__":
    runtime.run_main(setup)
