"""What an ensemble withstands: a suite of adaptive attacks, worst case per image.

    empir robustness --dataset=mnist --data_dir=FOLDER --out=runs/robustness
    empir robustness --dataset=cifar10 --members=w2a2:PATH,fp:PATH --eps=0.0313 --out=DIR
    empir robustness --dataset=mnist --checkpoint=mine.h5 --out=DIR
    empir robustness --checkpoint=mine.h5 --data=mine.npz --eps=0.03 --out=DIR

--out gets report.html, report.md, result.json, and per attack a folder with its record and its
images. The same command goes on where it stopped.
"""

import os

from absl import flags

from empir import runtime
from empir.commands import attack_flags, cluster_flags, shared_flags
from empir.commands.shared_flags import (
    define_count,
    define_number,
    define_seed,
    define_switches,
    define_texts,
)
from empir.data import subsets
from empir.errors import EmpirError
from empir.evaluation.threat import NORMS, Threat
from empir.models import keras_file
from empir.models.checkpoints import MemberSpec
from empir.nn import MOST_FILTERS, architecture
from empir.records import runs

FLAGS = flags.FLAGS

MOST_RESTARTS = 1000


def setup():
    """Define the flags; returns the main function."""
    shared_flags.define_command()
    shared_flags.define_own_data("data_dir")
    shared_flags.define_members("By default they are the dataset's in checkpoints.")
    text = "Files of your own Keras models, written by keras.Model.save, in place of --members. By "
    flags.DEFINE_list("checkpoint", None, text + "default there are none.")
    text = "Networks that are not attacked, but from which attacks are transferred, as --members. "
    text += "By default it is the one in checkpoints; an empty value stands for none."
    flags.DEFINE_list("outside", None, text)
    define_switches(trust="Load such a file also if it holds code (Lambda layers). The code runs.")
    shared_flags.define_combine("mean_logits")
    text = "The width of the members. By default it is that of their checkpoints."
    define_count("nb_filters", None, text, MOST_FILTERS)
    shared_flags.define_kinds()
    shared_flags.define_runtime()
    text = "The radius, e.g. 0.1 or 8/255. By default it is the paper's for the norm linf."
    define_number("eps", None, text, zero=False)
    flags.DEFINE_string("norm", "linf", "The norm of the radius: linf or l2.")
    text = "The number of test images to attack; --subset says which."
    define_count("nb_samples", 1000, text)
    shared_flags.define_subset(subsets.STRATIFIED)
    define_count("batch_size", 100, "The number of images that are attacked together.")
    define_seed(runtime.DEFAULT_SEED, "The seed of everything random.")
    text = "The number of Auto-PGD's iterations on the images that are still classified correctly."
    define_count("nb_iter", 100, text)
    text = "The number of its random starts on these images."
    define_count("restarts", 5, text, MOST_RESTARTS)
    cluster_flags.define_scheduler()
    flags.DEFINE_bool("analyses", True, "Measure curves and run checks, too.")
    define_texts(out="The folder of the records and the report. It has no default.")
    return run


def run(_):
    """Evaluate, write the report, and print its table.

    Raises:
      EmpirError: for bad input; `process.exit_with` prints it as one line.
    """
    from empir.evaluation import subjects

    chosen = shared_flags.chosen_experiment(FLAGS.dataset)
    if not FLAGS.out:
        raise EmpirError("--out is missing: name a folder for the records and the report")
    if FLAGS.norm not in NORMS:
        raise EmpirError(f"--norm={FLAGS.norm}: choose from {', '.join(NORMS)}")
    if FLAGS.eps is None and FLAGS.norm != "linf":
        raise EmpirError(f"--norm={FLAGS.norm} needs --eps, the radius in that norm")
    runs.check_writable(FLAGS.out)
    models = subjects.keras_files(FLAGS.checkpoint)
    _check_models(models)
    members = ()
    if not models:
        chosen, members = attack_flags.network_and_members(chosen)
    source = subjects.Source(
        architecture=chosen.architecture,
        members=members,
        models=models,
        outside=_outside(subjects.independent(chosen)),
        combine=FLAGS.combine,
        options=attack_flags.options(),
        seed=FLAGS.seed,
        trust=FLAGS.trust,
        prepare=shared_flags.prepared(chosen),
    )
    # What draws at random would depend on which share is first.
    draws = FLAGS.stocRound or architecture(chosen.architecture).draws
    draws = draws or any(keras_file.read(path).draws for path in models)
    images = 1 if draws else min(FLAGS.batch_size, FLAGS.nb_samples)
    runtime.configure(cluster_flags.threads(), images)
    asked = (chosen, "test", FLAGS.sample, bool(models))
    data, load = shared_flags.load_data(*asked), shared_flags.loader(*asked)
    data = shared_flags.take(data, FLAGS.nb_samples, _subset_of_run(FLAGS.out))

    from empir.evaluation import suite, suites
    from empir.report import robustness as report

    threat = Threat(FLAGS.norm, chosen.eps if FLAGS.eps is None else FLAGS.eps)
    options = dict(source.options, **shared_flags.recorded_runtime())
    setting = source.setting(data, threat, FLAGS.batch_size, options)
    with cluster_flags.cluster({cluster_flags.DRAWS: draws}) as cluster:
        result = suite.run(
            setting,
            FLAGS.out,
            progress=FLAGS.progress,
            analyses=FLAGS.analyses,
            effort=suites.Effort(FLAGS.nb_iter, FLAGS.restarts),
            place=cluster(source, data, load, images),
        )
    report.write(result, data, FLAGS.out)
    print(report.terminal(result.record))


def _subset_of_run(out):
    """How a run takes its images by default: a run of before --subset took the first ones."""
    path = os.path.join(out, runs.DESCRIPTION)
    begun = os.path.exists(path) and "subset" not in runs.read_json(path).get("data", {})
    return subsets.FIRST if begun else subsets.STRATIFIED


def _outside(default):
    if FLAGS.outside is None:
        return default
    return tuple(MemberSpec.parse(text, "--outside") for text in FLAGS.outside if text)


def _check_models(models):
    """Raise `EmpirError` for flags that are not for, or only for, the files of --checkpoint."""
    for name in ("members", "nb_filters", "stocRound", "rand", "network"):
        if models and FLAGS[name].value:
            raise EmpirError(f"--{name} and --checkpoint exclude each other")
    if models and FLAGS.runtime != "tensorflow":
        raise EmpirError(f"--runtime={FLAGS.runtime} and --checkpoint exclude each other")
    if FLAGS.trust and not models:
        raise EmpirError("--trust is about the files of --checkpoint, which is not given")
