"""The flags that say what a training minimises, and the training of a network as they say.

    --objective    any objective by its name, or of your own   --objective_parameters

The original's flags (docs/original.md, Flags and Training):

    --adv=1        adversarial training on PGD            --delay --nb_iter --adv_eps --adv_eps_iter
    --adv=2        adversarial training on FGSM           --delay --adv_eps --adv_radius
    --distill      a teacher, then its student            --student_epochs --teacher_path
    --inpgradreg   input-gradient regularisation          --l2dbl --l2cs
"""

import ast
import dataclasses
import logging
import os
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from absl import flags

from empir.attacks import MOST
from empir.commands import shared_flags
from empir.commands.shared_flags import (
    define_count,
    define_number,
    define_switches,
    define_texts,
    given,
)
from empir.errors import EmpirError
from empir.experiments import DELAY, STUDENT_EPOCHS, Experiment
from empir.models import checkpoints
from empir.nn import family
from empir.nn.precision import FULL

if TYPE_CHECKING:
    from empir.commands.attack_flags import Request

log = logging.getLogger("empir")
FLAGS = flags.FLAGS

PGD, FGSM = 1, 2
RELEASED_EPS = 0.3  # the original's in all its scripts (docs/original.md, Defects 17, 22)
TEACHER = "teacher"  # the teacher's folder in --model_path

#: Parameters of objectives that have the experiment's values by default.
EXPERIMENTS_OWN = ("clip_range", "eps", "eps_iter", "nb_iter")

#: Flags by the one without which they have no effect.
PARAMETERS = {
    "objective": ("objective_parameters",),
    "adv": ("delay", "adv_eps", "adv_eps_iter", "adv_radius"),
    "distill": ("student_epochs", "teacher_path"),
    "inpgradreg": ("l2dbl", "l2cs"),
}


def define(experiment: Experiment):
    """Define the flags that the original's script of this experiment has, and the new ones."""
    define_texts(
        objective="What a training minimises: cross-entropy, pgd-adversarial, fgsm-adversarial, "
        "input-gradient, or a class of your own, as FILE.py:CLASS or MODULE:CLASS. By default it "
        "is what --adv, --distill or --inpgradreg say, or else cross-entropy.",
        initial_path="The checkpoint whose weights a training starts from. By default they are "
        "drawn at random.",
    )
    flags.DEFINE_list(
        "objective_parameters",
        None,
        "The parameters of --objective, as NAME=VALUE,... By default clip_range, eps, eps_iter and "
        "nb_iter are the dataset's, and others the objective's own.",
    )
    _define_adversarial(experiment)
    if experiment.distilling is not None:
        define_switches(
            distill="Train by defensive distillation. Its temperature divides the logits.",
            inpgradreg="Train with input-gradient regularisation.",
        )
        text = "The number of the student's epochs in --distill. --nb_epochs are the teacher's."
        define_count("student_epochs", STUDENT_EPOCHS, text)
        define_texts(
            teacher_path="The folder of the teacher of --distill. A teacher that is there is "
            "taken, else one is trained. By default it is the folder teacher in --model_path."
        )
        define_number("l2dbl", 0, "The weight of the loss's gradient in --inpgradreg, e.g. 1000.")
        define_number("l2cs", 0, "The weight of the certainty's gradient in --inpgradreg, e.g. 1.")


def _define_adversarial(experiment):
    text = "Adversarial training: 0 is none, 1 is with PGD, 2 with FGSM."
    flags.DEFINE_integer("adv", 0, text, lower_bound=0, upper_bound=2)
    text = "The number of epochs without adversarial images before those of --adv."
    flags.DEFINE_integer("delay", DELAY, text, lower_bound=0, upper_bound=MOST)
    text = f"The radius of --adv. By default it is {experiment.eps:g}, or with "
    text += f"--adv_radius=released the original's {RELEASED_EPS:g}."
    define_number("adv_eps", None, text, zero=False)
    define_number("adv_eps_iter", experiment.eps_iter, "The step of PGD in --adv=1.", zero=False)
    flags.DEFINE_string(
        "adv_radius",
        "scaled",
        "How --adv=2 draws its radius: scaled draws at most --adv_eps; released draws as the "
        "original, which drives nearly every pixel to 0 or 1.",
    )


def asked(name: str) -> bool:
    """Whether a flag of `PARAMETERS`' keys is set."""
    return name in FLAGS and bool(FLAGS[name].value)


def chosen():
    """The one of `PARAMETERS`' keys that is set, or None; `EmpirError` if several are."""
    names = [name for name in PARAMETERS if asked(name)]
    if len(names) > 1:
        flags_of = " and ".join(f"--{name}" for name in names)
        raise EmpirError(f"{flags_of} exclude each other: give one")
    return names[0] if names else None


def without_effect(training: bool):
    """(flag, reason) for each flag of this module on the command line that a run does not read."""
    if given("initial_path") and not training:
        yield "initial_path", "the networks are loaded, not trained"
    for name, parameters in PARAMETERS.items():
        for flag in filter(given, (name, *parameters)):
            if not training:
                yield flag, "the networks are loaded, not trained"
            elif not asked(name):
                yield flag, f"there is no --{name}"
    if training and asked("adv"):
        unread = "adv_radius" if FLAGS.adv == PGD else "adv_eps_iter"
        if given(unread):
            yield unread, f"--adv={FLAGS.adv} does not read it"


def objective(experiment: Experiment):
    """The objective that the flags ask for, in a training of one network.

    Returns:
      An `empir.training.Objective`; with --distill it is the student's.

    Raises:
      EmpirError: for flags that exclude each other, or an --objective that there is not.
    """
    from empir.training import objectives

    kind = chosen()
    if kind == "adv":
        return _adversarial(experiment, objectives)
    if kind == "inpgradreg":
        return objectives.InputGradientRegularisation(FLAGS.l2dbl, FLAGS.l2cs)
    if kind == "distill":
        distilling: Any = experiment.distilling  # without them there is no --distill
        return objectives.Distillation(**dataclasses.asdict(distilling))
    if kind is None:
        return objectives.CrossEntropy()
    name = FLAGS.objective
    if ":" in name:
        factory = shared_flags.load_object(name, "--objective")
    elif name in objectives.OBJECTIVES:
        factory = objectives.OBJECTIVES[name]
    else:
        known = ", ".join(objectives.OBJECTIVES)
        raise EmpirError(f"--objective={name}: choose from {known}, or give FILE.py:CLASS")
    defaults = {key: getattr(experiment, key) for key in EXPERIMENTS_OWN}
    try:
        return objectives.make(factory, _parameters(), defaults)
    except EmpirError as error:
        raise EmpirError(f"--objective={name}: {error}")


def _parameters():
    """The values of --objective_parameters: numbers where they are written so, else text."""
    found = {}
    for text in FLAGS.objective_parameters or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise EmpirError(f"--objective_parameters: {text!r} is not NAME=VALUE")
        found[name] = _value(value)
    return found


def _value(text):
    try:
        return float(Fraction(text)) if "/" in text else ast.literal_eval(text)
    except (ValueError, SyntaxError, ZeroDivisionError):
        return text


def train(request: "Request") -> dict:
    """Train the network of a request; returns its weights under their released names."""
    from empir.training import distillation, loop, workers

    path, setting = request.members[0].path, request.setting
    if path is None:
        log.warning("training without --model_path: the network is attacked, then forgotten")
    settings = _settings(request)
    together = workers.from_environment()
    if together.count > 1 and (asked("distill") or not request.train_only):
        raise EmpirError(
            f"{workers.VARIABLE} names several workers, which can only train, and not by "
            "--distill: give --train_only, or unset it"
        )
    arguments = dict(
        resume=request.resume,
        logdir=FLAGS.logdir,
        test=shared_flags.load_data(request.experiment, "test"),
        test_each_epoch=FLAGS.test,
        progress=request.progress,
        keep_state=FLAGS.keep_state,
    )
    if FLAGS.initial_path:
        arguments["initial"] = checkpoints.read_initial(
            FLAGS.initial_path, settings.network, settings.precisions
        )
    data = shared_flags.load_data(request.experiment, "train")
    if not asked("distill"):
        return loop.train(settings, data, path, workers=together, **arguments)
    student = dataclasses.replace(settings, epochs=FLAGS.student_epochs)
    teacher = _teacher(settings, setting.distilling)
    kept = FLAGS.teacher_path or (path and os.path.join(path, TEACHER))
    return distillation.distill(student, teacher, data, kept, directory=path, **arguments)


def _settings(request):
    """The `training.Settings` of a request; with --distill the student's, but for the epochs."""
    from empir.training import Settings

    setting, precisions = request.setting, request.precisions[0]
    names = ("batch_size", "learning_rate", "seed", "label_smoothing", "adam_epsilon")
    return Settings(
        network=request.network,
        precisions=precisions,
        options=request.options,
        epochs=setting.nb_epochs,
        schedule=setting.schedule(setting.learning_rate, family(precisions) == "lp"),
        objective=objective(request.experiment),
        **{name: getattr(setting, name) for name in names},
    )


def _teacher(settings, distilling):
    """The settings of the teacher of --distill: a network of full precision and plain rounding."""
    from empir.training import objectives

    return dataclasses.replace(
        settings,
        precisions=(FULL,) * len(settings.precisions),
        options={k: v for k, v in settings.options.items() if k == "nb_filters"},
        objective=objectives.CrossEntropy(distilling.logit_divisor),
    )


def _adversarial(experiment, objectives):
    released = FLAGS.adv == FGSM and FLAGS.adv_radius == "released"
    eps = FLAGS.adv_eps
    if eps is None:
        eps = RELEASED_EPS if released else experiment.eps
    clip = experiment.clip_range
    if FLAGS.adv == FGSM:
        return objectives.FGSMTraining(eps, clip, FLAGS.adv_radius, FLAGS.delay)
    return objectives.PGDTraining(eps, FLAGS.adv_eps_iter, FLAGS.nb_iter, clip, FLAGS.delay)
