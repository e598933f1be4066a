"""What an ensemble withstands: a suite of adaptive attacks, worst case per image.

    empir robustness --dataset=mnist --data_dir=FOLDER --out=runs/robustness
    empir robustness --dataset=cifar10 --members=w2a2:PATH,fp:PATH --eps=0.0313 --out=DIR
    empir robustness --dataset=mnist --checkpoint=mine.h5 --out=DIR
    empir robustness --checkpoint=mine.h5 --data=mine.npz --eps=0.03 --out=DIR

--out gets report.html, report.md, result.json, and per attack a folder with its record and its
images. The same command goes on where it stopped.
"""

from absl import flags

from empir import runtime
from empir.commands import data_flags
from empir.commands import flags as empir_flags
from empir.commands.flag_types import define_count, define_number, define_seed
from empir.errors import EmpirError
from empir.evaluation.ball import NORMS
from empir.experiments import experiment
from empir.models import keras_file
from empir.models.specs import MemberSpec
from empir.nn import MOST_FILTERS
from empir.records import runs

FLAGS = flags.FLAGS

MOST_RESTARTS = 1000


def setup():
    """Define the flags; returns the main function."""
    empir_flags.define_command()
    data_flags.define_own_data("data_dir")
    empir_flags.define_members("default: the dataset's in checkpoints")
    text = "your own Keras models (keras.Model.save), in place of --members; default: none"
    flags.DEFINE_list("checkpoint", None, text)
    flags.DEFINE_bool("trust", False, "load these also if they hold code (Lambda layers): it runs")
    flags.DEFINE_list(
        "outside", None, "networks to transfer attacks from, as --members; default: the shipped one"
    )
    flags.DEFINE_string("combine", "mean_logits", "decision rule: mean_logits, mean_probs, vote")
    text = "the members' width; default: their checkpoints'"
    define_count("nb_filters", None, text, MOST_FILTERS)
    flags.DEFINE_bool("stocRound", False, "quantize with stochastic rounding")
    empir_flags.define_rand()
    text = "radius, e.g. 0.1 or 8/255; default: the paper's (L-infinity)"
    define_number("eps", None, text, zero=False)
    flags.DEFINE_string("norm", "linf", "linf or l2")
    define_count("nb_samples", 1000, "the first n test images")
    define_count("batch_size", 100, "images per graph call")
    define_seed(runtime.DEFAULT_SEED, "of everything random")
    define_count("nb_iter", 100, "Auto-PGD's iterations on what is left")
    define_count("restarts", 5, "its random starts on what is left", MOST_RESTARTS)
    flags.DEFINE_bool("analyses", True, "curves and verdicts too")
    flags.DEFINE_string("out", None, "folder of the records and the report; no default")
    return run


def run(_):
    """Evaluate, write the report, and print its table.

    Raises:
      EmpirError: for bad input; `process.exit_with` prints it as one line.
    """
    from empir.evaluation import subjects

    chosen = experiment(FLAGS.dataset)
    if not FLAGS.out:
        raise EmpirError("--out is missing: name a folder for the records and the report")
    if FLAGS.norm not in NORMS:
        raise EmpirError("--norm=%s: choose from %s" % (FLAGS.norm, ", ".join(NORMS)))
    if FLAGS.eps is None and FLAGS.norm != "linf":
        raise EmpirError("--norm=%s needs --eps, the radius in that norm" % FLAGS.norm)
    runs.check_writable(FLAGS.out)
    models = subjects.keras_files(FLAGS.checkpoint)
    options = _options(models)
    members = () if models else _members(chosen)
    chosen = empir_flags.with_rand(chosen, members)
    source = subjects.Source(
        architecture=chosen.architecture,
        members=members,
        models=models,
        outside=_outside(() if FLAGS.rand else subjects.independent(chosen)),
        combine=FLAGS.combine,
        options=options,
        seed=FLAGS.seed,
        trust=FLAGS.trust,
    )
    # What draws at random would depend on which share is first.
    whole = FLAGS.stocRound or FLAGS.rand or any(keras_file.read(path).draws for path in models)
    images = 1 if whole else min(FLAGS.batch_size, FLAGS.nb_samples)
    runtime.configure(FLAGS.num_threads, images)
    data = data_flags.load_data(chosen, "test", FLAGS.sample, any_shape=bool(models))
    data = data.first(FLAGS.nb_samples)

    from empir.evaluation import rounds, suite, trials
    from empir.report import robustness as report

    setting = rounds.Setting(
        open=lambda: source.open(data),
        data=data,
        eps=chosen.eps if FLAGS.eps is None else FLAGS.eps,
        norm=FLAGS.norm,
        seed=FLAGS.seed,
        batch_size=min(FLAGS.batch_size, len(data.labels)),
        architecture="Keras" if models else chosen.architecture,
        options=source.options,
    )
    outcome = suite.run(
        setting,
        FLAGS.out,
        progress=FLAGS.progress,
        analyses=FLAGS.analyses,
        effort=trials.Effort(FLAGS.nb_iter, FLAGS.restarts),
    )
    report.write(outcome, data, FLAGS.out)
    print(report.terminal(outcome.record))


def _members(chosen):
    from empir.evaluation import subjects

    return subjects.shipped(chosen) if FLAGS.members is None else empir_flags.listed_members()


def _outside(default):
    if FLAGS.outside is None:
        return default
    return tuple(MemberSpec.parse(text, "--outside") for text in FLAGS.outside if text)


def _options(models):
    """Arguments of the members' builder that differ from its defaults."""
    asked = {
        "nb_filters": (FLAGS.nb_filters, None),
        "stochastic_rounding": (FLAGS.stocRound, False),
    }
    options = {key: value for key, (value, default) in asked.items() if value != default}
    for name in ("members", "nb_filters", "stocRound", "rand"):
        if models and FLAGS[name].value:
            raise EmpirError("--%s and --checkpoint exclude each other" % name)
    if FLAGS.trust and not models:
        raise EmpirError("--trust is about the files of --checkpoint, which is not given")
    return options
