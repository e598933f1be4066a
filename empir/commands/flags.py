"""The absl flags that the example scripts share; none is ever ignored silently."""

from typing import Tuple

from absl import flags

from empir import attacks, runtime
from empir.commands import defenses
from empir.commands.data_flags import define_data, define_own_data, given
from empir.commands.flag_types import define_count, define_number, define_seed
from empir.errors import EmpirError
from empir.experiments import ADAPTIVE, EXPERIMENTS, PROTOCOLS, Experiment
from empir.models.specs import MemberSpec
from empir.nn import MOST_FILTERS, architecture, precision

FLAGS = flags.FLAGS

#: Flags that some attacks read; given with another attack they are warned about.
ATTACK_FLAGS = ("eps", "eps_iter", "nb_iter", "attack_iterations")
EVALUATION_FLAGS = (
    "attack",
    "nb_samples",
    "targeted",
    "out",
    "protocol",
    "engine",
)
SHOWING_FLAGS = ("save_adversarial", "viz_enabled")
TRAINING_FLAGS = ("nb_epochs", "batch_size", "test", "logdir", "keep_state", "train_label_offset")


def define(experiment: Experiment):
    """Define every flag of an example script with the experiment's defaults."""
    defenses.define(experiment)
    define_data(experiment.data_flag)
    define_own_data(experiment.data_flag)
    _define_run(experiment)
    _define_networks(experiment)
    _define_training(experiment)
    _define_attack(experiment)


def define_command():
    """Define the flags that commands on any dataset share."""
    flags.DEFINE_string("dataset", "mnist", "one of: " + ", ".join(EXPERIMENTS))
    define_data("data_dir", "imagenet_path", training=False)
    flags.DEFINE_bool("sample", False, "attack the images embedded in the repository")
    define_threads()
    flags.DEFINE_bool("progress", True, "progress bars on a terminal")


def define_threads():
    """Define --num_threads."""
    text = "threads to compute with; default: OMP_NUM_THREADS, or this machine's processors"
    define_count("num_threads", None, text, runtime.MOST_THREADS)


def define_members(note: str):
    """Define --members; see `listed_members`."""
    flags.DEFINE_list(
        "members",
        None,
        "an ensemble of any number of networks: PRECISION:CHECKPOINT,..., e.g. "
        "w2a4:model1,w4a2/w2a2/fp:model2,fp:model3; " + note,
    )


def _define_run(experiment):
    text = "number of the GPU to use, empty for none; default: CUDA_VISIBLE_DEVICES, or all"
    flags.DEFINE_string("gpu", None, text)
    define_threads()
    define_seed(
        None,
        "seed of training, random starts and random targets; default: the original's %d"
        % experiment.seed,
    )
    text = "folder for result.json and examples.npz; default: nothing is kept"
    flags.DEFINE_string("out", None, text)
    flags.DEFINE_bool(
        "resume", False, "continue a killed run in --out, or training in --model_path"
    )
    flags.DEFINE_bool("progress", True, "progress bars on a terminal")
    flags.DEFINE_bool("debug", False, "log at level DEBUG")


def _define_networks(experiment):
    flags.DEFINE_string(
        "model_path",
        None,
        "checkpoint of one network, or an empty folder to train in; default: a network is trained "
        "and not kept",
    )
    for number in (1, 2, 3):
        flags.DEFINE_string(
            "model_path%d" % number,
            None,
            "checkpoint of model %d of --ensembleThree, which has no default" % number,
        )
    flags.DEFINE_bool(
        "ensembleThree", False, "attack the ensemble of models 1, 2 (quantized) and 3"
    )
    define_members("in place of --ensembleThree; default: the networks of the other flags")
    flags.DEFINE_bool("lowprecision", False, "the network of --model_path is quantized")
    for suffix, which in (("", "model 1 or the single network"), ("2", "model 2")):
        for letter, what in (("w", "weight"), ("a", "activation")):
            name, text = letter + "bits" + suffix, "%s bits of %s, 1..31" % (what, which)
            flags.DEFINE_integer(name, 0, text + "; 0 stands for none")
            text = "%s bits per layer of %s; default: --%s in all" % (what, which, name)
            flags.DEFINE_list(name + "List", None, text)
    text = "width of a network that is trained; one that is loaded has its checkpoint's"
    define_count("nb_filters", experiment.nb_filters, text, MOST_FILTERS)
    flags.DEFINE_bool("stocRound", False, "quantize with stochastic rounding")
    define_rand()


def define_rand():
    """Define --rand."""
    text = (
        "MNIST's full-precision network with weights that are drawn at every pass (MNISTconvRand)"
    )
    flags.DEFINE_bool("rand", False, text)


def with_rand(experiment: Experiment, specs) -> Experiment:
    """The experiment with the network that --rand asks for; the same one without the flag.

    Raises:
      EmpirError: if the dataset has no such network, or if a member is quantized.
    """
    if not FLAGS.rand:
        return experiment
    if experiment.random_architecture is None:
        raise EmpirError("--rand is a network for MNIST only: drop it")
    whole = len(architecture(experiment.architecture).quantized_layers)
    for spec in specs:
        if not all(bits.is_full for bits in precision.per_layer(spec.precision, whole)):
            raise EmpirError(
                "--rand is a network of full precision: drop bits, or name members fp:CHECKPOINT"
            )
    return experiment._replace(architecture=experiment.random_architecture)


def _define_training(experiment):
    define_count("nb_epochs", experiment.nb_epochs, "training epochs")
    define_count("batch_size", experiment.batch_size, "images of a training step")
    name = experiment.learning_rate_flag
    define_number(name, experiment.learning_rate, "Adam's learning rate", zero=False)
    flags.DEFINE_bool("train_only", False, "train the network of --model_path, then stop")
    flags.DEFINE_bool("test", False, "log the test accuracy after each epoch")
    text = "folder for TensorBoard summaries of training; default: none are written"
    flags.DEFINE_string("logdir", None, text)
    flags.DEFINE_bool(
        "keep_state",
        False,
        "keep the optimizer's state in --model_path when training is over, so that --resume with "
        "a larger --nb_epochs goes on from there instead of from the beginning",
    )


def _define_attack(experiment):
    flags.DEFINE_string("attack", "cw", ", ".join(attacks.TABLE) + ", or the original's 0..4")
    define_count("nb_samples", experiment.nb_samples, "attack the first n test images")
    flags.DEFINE_bool("targeted", False, "attack towards every class but the true one")
    define_number("eps", experiment.eps, "radius of FGSM, BIM and PGD, e.g. 0.1 or 8/255")
    define_number("eps_iter", experiment.eps_iter, "step of BIM and PGD", zero=False)
    text = "steps of BIM and PGD, also of PGD in training"
    define_count("nb_iter", experiment.nb_iter, text)
    define_count("attack_iterations", experiment.cw_iterations, "steps of CW")
    text = "factor on members' logits inside an ensemble's softmax"
    define_number("temperature", 1.0, text, zero=False)
    text = "paper, whitebox, or adaptive (a suite of attacks); default: whitebox"
    flags.DEFINE_string("protocol", None, text)
    text = "decision rule: mean_logits, mean_probs, vote; default: the protocol's"
    flags.DEFINE_string("combine", None, text)
    flags.DEFINE_string(
        "attack_target",
        None,
        "what is differentiated: decision, full_precision, majority_probs, released; default: the "
        "protocol's",
    )
    flags.DEFINE_bool(
        "engine",
        None,
        "compute networks by empir.fast.engine (--engine) or layer by layer (--noengine), which "
        "agree up to rounding; default: the engine, unless there is a GPU or the network draws "
        "at random",
    )
    flags.DEFINE_bool("save_adversarial", False, "keep the adversarial images in examples.npz")
    flags.DEFINE_bool(
        "viz_enabled", False, "draw the first images beside their adversarial images, as PNG"
    )


def members() -> Tuple[MemberSpec, ...]:
    """The members that the flags ask for: one, the three of --ensembleThree, or --members.

    Raises:
      EmpirError: for bits or paths that are missing, out of range, or contradict each other.
    """
    if given("members"):
        others = ("ensembleThree", "lowprecision", "model_path", "wbits", "abits")
        others += ("model_path1", "model_path2", "model_path3", "wbits2", "abits2")
        others += ("wbitsList", "abitsList", "wbits2List", "abits2List")
        for name in others:
            if given(name) and FLAGS[name].value:
                raise EmpirError("--%s and --members exclude each other" % name)
        return listed_members()
    return _ensemble_members() if FLAGS.ensembleThree else (_single_member(),)


def listed_members() -> Tuple[MemberSpec, ...]:
    """The members of --members; `EmpirError` for an entry that is not PRECISION:CHECKPOINT."""
    if not FLAGS.members:
        raise EmpirError("--members is empty: give PRECISION:CHECKPOINT,...")
    return tuple(MemberSpec.parse(text, "--members") for text in FLAGS.members)


def _ensemble_members():
    for name in ("model_path", "lowprecision"):
        if given(name) and FLAGS[name].value:
            raise EmpirError(
                "--%s and --ensembleThree contradict each other: the ensemble's networks are "
                "--model_path1, --model_path2 and --model_path3" % name
            )
    missing = ["--model_path%d" % i for i in (1, 2, 3) if not FLAGS["model_path%d" % i].value]
    if missing:
        raise EmpirError("--ensembleThree needs %s" % ", ".join(missing))
    return (
        MemberSpec(_bits(""), FLAGS.model_path1),
        MemberSpec(_bits("2"), FLAGS.model_path2),
        MemberSpec(precision.FULL, FLAGS.model_path3),
    )


def _single_member():
    ensemble_only = ("model_path1", "model_path2", "model_path3", "wbits2", "abits2")
    ensemble_only += ("wbits2List", "abits2List", "combine", "attack_target", "temperature")
    for name in ensemble_only:
        if given(name):
            raise EmpirError(
                "--%s is for ensembles: add --ensembleThree or --members, or drop it" % name
            )
    if FLAGS.lowprecision:
        return MemberSpec(_bits(""), FLAGS.model_path)
    for name in ("wbits", "abits", "wbitsList", "abitsList", "stocRound"):
        if given(name):
            raise EmpirError(
                "--%s is for quantized networks: add --lowprecision or --ensembleThree" % name
            )
    return MemberSpec(precision.FULL, FLAGS.model_path)


def _bits(suffix):
    """Precision(s) of model 1 (suffix "") or model 2 ("2")."""
    scalars = ["wbits" + suffix, "abits" + suffix]
    lists = ["wbits%sList" % suffix, "abits%sList" % suffix]
    if any(given(name) for name in lists):
        if any(given(name) for name in scalars):
            raise EmpirError("--%s and --%s exclude each other" % (scalars[0], lists[0]))
        values = [_integers(name) for name in lists]
        chosen = precision.from_lists(*values)
    else:
        for name in scalars:
            if not FLAGS[name].value:
                raise EmpirError("--%s is missing: give 1..31 bits, e.g. --%s=2" % (name, name))
            precision.check_bits(FLAGS[name].value, "--" + name)
        chosen = precision.Precision.of(*(FLAGS[name].value for name in scalars))
    if all(p.is_full for p in precision.per_layer(chosen, len(chosen) if given(lists[0]) else 1)):
        raise EmpirError("--%s=32: a quantized network needs bits below 32" % scalars[0])
    return chosen


def _integers(name):
    values = FLAGS[name].value
    if not values:
        raise EmpirError("--%s is missing: give one value per quantized layer" % name)
    try:
        return [int(value) for value in values]
    except ValueError:
        raise EmpirError(
            "--%s=%s: write integers, e.g. --%s=2,4,2" % (name, ",".join(values), name)
        )


def protocol():
    """(name or None, decision rule, attack target) that the flags ask for.

    Raises:
      EmpirError: for an unknown --protocol, or one that contradicts --combine or --attack_target.
    """
    name = FLAGS.protocol or "whitebox"
    if name == ADAPTIVE:
        if FLAGS.attack_target:
            raise EmpirError("--protocol=adaptive attacks all targets: drop --attack_target")
        return name, FLAGS.combine or PROTOCOLS["whitebox"].combine, None
    if name not in PROTOCOLS:
        names = list(PROTOCOLS) + [ADAPTIVE]
        raise EmpirError("--protocol=%s: choose from %s" % (name, ", ".join(names)))
    chosen = PROTOCOLS[name]
    combine = FLAGS.combine or chosen.combine
    target = FLAGS.attack_target or chosen.attack_target
    if FLAGS.protocol and (combine, target) != tuple(chosen):
        raise EmpirError(
            "--protocol=%s means --combine=%s --attack_target=%s: drop --protocol to choose others"
            % (name, chosen.combine, chosen.attack_target)
        )
    names = [n for n, p in PROTOCOLS.items() if tuple(p) == (combine, target)]
    return (names[0] if names else None), combine, target


def without_effect(attack: str, training: bool, experiment: Experiment):
    """Flags on the command line that this run does not read, with the reason."""
    pgd_training = training and defenses.asked("adv") and FLAGS.adv == defenses.PGD
    in_training = {"nb_iter"} if pgd_training else set()
    if FLAGS.train_only:
        unread = tuple(set(ATTACK_FLAGS) - in_training) + EVALUATION_FLAGS + SHOWING_FLAGS
        yield from ((name, "--train_only attacks nothing") for name in unread if given(name))
    elif FLAGS.protocol == ADAPTIVE:
        unread = ("attack", "eps_iter", "attack_iterations", "targeted") + SHOWING_FLAGS
        unread += () if in_training else ("nb_iter",)
        yield from ((n, "--protocol=adaptive sets its own attacks") for n in unread if given(n))
    else:
        read = set(attacks.row(attack).sources().values()) | in_training
        for name in ATTACK_FLAGS:
            if given(name) and name not in read:
                yield name, "--attack=%s does not read it" % attack
    if not training:
        for name in TRAINING_FLAGS + (experiment.learning_rate_flag,):
            attacked_by = name == "batch_size" and experiment.attack_batch is None
            if given(name) and not attacked_by:
                yield name, "the networks are loaded, not trained"
    yield from defenses.without_effect(training)
    if given("save_adversarial") and not FLAGS.out:
        yield "save_adversarial", "there is no --out to save to"
    if FLAGS.resume and not FLAGS.out and not (training and FLAGS.model_path):
        if not FLAGS.model_path:
            yield "resume", "nothing is kept without --out or --model_path"
        elif FLAGS.train_only:
            yield "resume", "the network of --model_path is trained to its end"
        else:
            yield "resume", "the network of --model_path is loaded, and there is no --out"
