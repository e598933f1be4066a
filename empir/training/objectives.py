"""What a training minimises: the interface of objectives, and those of the paper's comparison.

The paper compares plain cross-entropy, adversarial training, input-gradient regularisation and
defensive distillation, which is the training of a teacher and then of a student. Each is a subclass
of `Objective`. `register` gives an objective a name for the command line's --objective.
"""

import abc
import dataclasses
import inspect
import math
import numbers
from dataclasses import dataclass
from typing import Callable, Dict, Optional, Tuple

from empir.attacks.pgd import FastGradientMethod, ProjectedGradientDescent
from empir.errors import EmpirError
from empir.fast.engine import engine_for
from empir.models.member import Member
from empir.nn.layers import fixed_statistics
from empir.runtime import tf

#: How the radius of FGSM in training is drawn, see `FGSMTraining`.
RADII = ("scaled", "released")


@dataclass(frozen=True, eq=False)
class Batch:
    """What the loss of a training step is computed from.

    Attributes:
      member: the network, in its training phase.
      images: float32 [n, height, width, channels].
      logits: of the images, float32 [n, classes].
      labels: int64 [n].
      targets: float32 [n, classes], labels one-hot and smoothed.
      soft_labels: a teacher's probabilities, float32 [n, classes]; None without a teacher.
      index: int64 [n], another number for each image and each step, for random draws.
      step: int64 scalar, the number of steps before this one.
      seed: seed of random draws, an integer.
    """

    member: Member
    images: tf.Tensor
    logits: tf.Tensor
    labels: tf.Tensor
    targets: tf.Tensor
    soft_labels: Optional[tf.Tensor]
    index: tf.Tensor
    step: tf.Tensor
    seed: int


class Objective(abc.ABC):
    """The loss that a training minimises.

    A subclass is a frozen dataclass that defines `loss`. Its fields are its parameters: plain data,
    which training.json records, and which must be the same when a training is resumed.

    Attributes:
      name: what training.json calls the objective; by default the name of its class.
      start: the first epoch, counted from 0, in which the objective is used. The epochs before it
        minimise plain cross-entropy. A class attribute, or a field.
    """

    name = ""
    start = 0

    def __init_subclass__(cls, **arguments):
        super().__init_subclass__(**arguments)
        cls.name = cls.__dict__.get("name", cls.__name__)

    @abc.abstractmethod
    def loss(self, batch: Batch) -> tf.Tensor:
        """The loss of a batch, a float32 scalar that the weights are trained to lower.

        It is called while the graph of a training is built, once for each device.
        """

    def check(self, epochs: int):
        """Refuse parameters out of range; called before a training starts.

        Args:
          epochs: number of epochs of the training.

        Raises:
          EmpirError: for a parameter that is out of range. By default none is.
        """

    def describe(self) -> dict:
        """The name and the parameters as plain data."""
        # Every objective is a dataclass; `make` refuses others.
        return dict(dataclasses.asdict(self), name=self.name)  # type: ignore[call-overload]


def mean_cross_entropy(targets, logits):
    """Batch mean of -sum targets log softmax(logits), each float32 [n, classes].

    Unlike TensorFlow's for integer labels it can be differentiated twice.
    """
    losses = tf.nn.softmax_cross_entropy_with_logits_v2(labels=targets, logits=logits)
    return tf.reduce_mean(losses)


def smoothed(labels, classes: int, label_smoothing: float):
    """Training targets, float32 [n, classes]: 1 - s for the label, s / (classes - 1) for others."""
    return tf.one_hot(labels, classes, 1 - label_smoothing, label_smoothing / (classes - 1))


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """Plain training: the mean cross-entropy of softmax(logits / T).

    Attributes:
      logit_divisor: T. One that is not 1 makes a distillation's teacher (docs/original.md,
        Training). Records call it temperature, as the literature does; here that word is kept for
        the factor on the logits that --temperature sets.
    """

    logit_divisor: float = 1.0
    name = "cross-entropy"

    def check(self, epochs: int):
        """See `Objective.check`."""
        check_positive("logit_divisor", self.logit_divisor)

    def loss(self, batch: Batch) -> tf.Tensor:
        """See `Objective.loss`."""
        return mean_cross_entropy(batch.targets, batch.logits / self.logit_divisor)

    def describe(self) -> dict:
        """See `Objective.describe`."""
        return _with_temperature(super().describe())


@dataclass(frozen=True)
class PGDTraining(Objective):
    """Adversarial training on PGD (Madry et al. 2017, arXiv 1706.06083).

    The loss is the mean of the cross-entropies of the clean and of the attacked images
    (docs/original.md, Training).
    The attack starts at random inside the ball, follows the network that is being trained, as it
    is evaluated, away from its own decisions, and takes `nb_iter` steps. Nothing is differentiated
    through it.

    Attributes:
      eps, eps_iter, nb_iter: radius, step and steps, L-infinity, in units of the images.
      clip_range: lowest and highest value of an image.
      start: epochs of plain training before, counted from 0.
    """

    eps: float
    eps_iter: float
    nb_iter: int
    clip_range: Tuple[float, float]
    start: int = 0
    name = "pgd-adversarial"

    def check(self, epochs: int):
        """See `Objective.check`."""
        for field in ("eps", "eps_iter"):
            check_positive(field, getattr(self, field))
        check_count("nb_iter", self.nb_iter, 2**31 - 1)
        _check_start(self.start, epochs)

    def loss(self, batch: Batch) -> tf.Tensor:
        """See `Objective.loss`."""
        parameters = dict(eps=self.eps, eps_iter=self.eps_iter, nb_iter=self.nb_iter)
        parameters.update(seed=batch.seed, index=batch.index)
        attack = ProjectedGradientDescent(_Evaluated(batch.member))
        return _on_clean_and_attacked(batch, attack, self.clip_range, parameters)


@dataclass(frozen=True)
class FGSMTraining(Objective):
    """Adversarial training on FGSM, one radius per batch; otherwise as `PGDTraining`.

    The radius is |r|, r normal and truncated at two standard deviations (Kurakin et al. 2016,
    arXiv 1611.01236). `radius="scaled"`: of standard deviation eps / 2, so at most eps.
    `radius="released"`: of standard deviation ceil(255 eps // 2), as the original, which means
    grey levels but images in [0, 1]: practically every pixel becomes 0 or 1 (docs/original.md,
    Defects 17).

    Attributes:
      eps: the largest radius.
      clip_range: lowest and highest value of an image.
      radius: one of `RADII`.
      start: epochs of plain training before, counted from 0.
    """

    eps: float
    clip_range: Tuple[float, float]
    radius: str = "scaled"
    start: int = 0
    name = "fgsm-adversarial"

    def check(self, epochs: int):
        """See `Objective.check`."""
        check_positive("eps", self.eps)
        _check_start(self.start, epochs)
        if self.radius not in RADII:
            raise EmpirError(f"radius={self.radius!r}: choose from {', '.join(RADII)}")

    def draw(self, seed: int, step):
        """The radius of a step, a scalar tensor; a function of (seed, step)."""
        deviation = self.eps / 2
        if self.radius == "released":
            deviation = math.ceil(255 * self.eps // 2)
        pair = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
        return tf.abs(tf.random.stateless_truncated_normal([], pair, stddev=float(deviation)))

    def loss(self, batch: Batch) -> tf.Tensor:
        """See `Objective.loss`."""
        attack = FastGradientMethod(_Evaluated(batch.member))
        return _on_clean_and_attacked(
            batch, attack, self.clip_range, dict(eps=self.draw(batch.seed, batch.step))
        )


@dataclass(frozen=True)
class InputGradientRegularisation(Objective):
    """Double backpropagation (Ross and Doshi-Velez 2018, arXiv 1711.09404; docs/original.md,
    Training):

    CE + l2dbl * |d CE / d x|^2 / 2 + l2cs * |d CE_uniform / d x|^2 / 2,

    CE the batch mean cross-entropy, CE_uniform the same against the uniform distribution, norms
    over batch and pixels. As CE is a mean its gradients are small and the weights large: 100 to
    100,000. Through quantizers both gradients go straight through, as in training.

    Attributes:
      l2dbl, l2cs: weights of the two penalties.
    """

    l2dbl: float
    l2cs: float
    name = "input-gradient"

    def check(self, epochs: int):
        """See `Objective.check`."""
        for field in ("l2dbl", "l2cs"):
            _check_weight(field, getattr(self, field))
        if not self.l2dbl + self.l2cs > 0:
            raise EmpirError(
                f"l2dbl={self.l2dbl:g}, l2cs={self.l2cs:g}: input-gradient regularisation needs "
                "one of them above 0, e.g. l2dbl=1000"
            )

    def penalty(self, batch: Batch):
        """The scalar that is added to the cross-entropy."""
        classes = batch.logits.shape[-1].value
        uniform = tf.ones_like(batch.targets) / classes
        terms = []
        for weight, targets in ((self.l2dbl, batch.targets), (self.l2cs, uniform)):
            if weight:
                loss = mean_cross_entropy(targets, batch.logits)
                terms.append(weight * tf.nn.l2_loss(tf.gradients(loss, batch.images)[0]))
        return tf.add_n(terms)

    def loss(self, batch: Batch) -> tf.Tensor:
        """See `Objective.loss`."""
        return mean_cross_entropy(batch.targets, batch.logits) + self.penalty(batch)


@dataclass(frozen=True)
class Distillation(Objective):
    """A student's training (Papernot et al. 2015, arXiv 1511.04508; docs/original.md, Training):

    hard * CE(labels, logits) + soft * CE(teacher's softmax(logits / T), student's logits / T).

    Attributes:
      logit_divisor: T, see `CrossEntropy`.
      hard, soft: weights of the two terms.
      teacher: sha256 of the teacher's weights, for the record.
    """

    logit_divisor: float
    hard: float
    soft: float
    teacher: str = ""
    name = "distillation"

    def check(self, epochs: int):
        """See `Objective.check`."""
        check_positive("logit_divisor", self.logit_divisor)
        for field in ("hard", "soft"):
            _check_weight(field, getattr(self, field))

    def loss(self, batch: Batch) -> tf.Tensor:
        """See `Objective.loss`; the batch must have soft labels."""
        hard = mean_cross_entropy(batch.targets, batch.logits)
        soft = mean_cross_entropy(batch.soft_labels, batch.logits / self.logit_divisor)
        return self.hard * hard + self.soft * soft

    def describe(self) -> dict:
        """See `Objective.describe`."""
        return _with_temperature(super().describe())


def _with_temperature(plain):
    """A description as records have it, in which the divisor of the logits is the temperature."""
    return dict(plain, temperature=plain.pop("logit_divisor"))


class _Evaluated(Member):
    """A network that is being trained, as it is evaluated: it normalises by moving statistics."""

    def __init__(self, member):
        super().__init__(member.model, member.precisions, engine=engine_for(member.model))

    def get_logits(self, x):
        """Logits, float32 [n, classes]."""
        with fixed_statistics(self.model):
            return super().get_logits(x)


def _on_clean_and_attacked(batch, attack, clip_range, parameters):
    clip = dict(clip_min=clip_range[0], clip_max=clip_range[1])
    attacked = attack.generate(batch.images, **dict(parameters, **clip))
    losses = [
        mean_cross_entropy(batch.targets, logits)
        for logits in (batch.logits, batch.member.get_logits(tf.stop_gradient(attacked)))
    ]
    return tf.add_n(losses) / 2


def check_positive(name: str, value: float):
    """Raise `EmpirError` unless a value is finite and above 0."""
    if not 0 < value < math.inf:
        raise EmpirError(f"{name}={value!r} must be positive and finite")


def check_count(name: str, value: int, most: int):
    """Raise `EmpirError` unless a value is an integer from 1 to `most`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not 0 < value <= most:
        raise EmpirError(f"{name}={value!r} must be positive, an integer and at most {most}")


def _check_start(start, epochs):
    if not isinstance(start, numbers.Integral) or not 0 <= start < epochs:
        raise EmpirError(
            f"delay={start} leaves none of {epochs} epochs for adversarial training: give more "
            "epochs or a smaller delay"
        )


def _check_weight(name, value):
    if not 0 <= value < math.inf:
        raise EmpirError(f"{name}={value!r} must be finite and at least 0")


#: Objectives by the name that --objective takes: functions of parameters to an `Objective`.
#: `Distillation` is not among them, as it needs a teacher (`empir.training.distillation`).
OBJECTIVES: Dict[str, Callable[..., Objective]] = {
    CrossEntropy.name: CrossEntropy,
    PGDTraining.name: PGDTraining,
    FGSMTraining.name: FGSMTraining,
    InputGradientRegularisation.name: InputGradientRegularisation,
}


def register(name: str, factory: Callable[..., Objective]):
    """Make an objective a choice of --objective.

    Args:
      name: the choice.
      factory: the class of the objective, or a function of keyword arguments that returns one.
    """
    OBJECTIVES[name] = factory


def make(factory: Callable[..., Objective], parameters: dict, defaults: dict) -> Objective:
    """The objective of given parameters.

    Args:
      factory: see `register`.
      parameters: keyword arguments.
      defaults: further ones, of which those are used that the factory takes.

    Raises:
      EmpirError: for a parameter that is missing or unknown, or a factory of something else.
    """
    try:
        known = inspect.signature(factory)
        used = {key: value for key, value in defaults.items() if key in known.parameters}
        arguments = dict(used, **parameters)
        known.bind(**arguments)
    except (TypeError, ValueError) as error:
        raise EmpirError(f"the parameters of {getattr(factory, '__name__', factory)}: {error}")
    objective = factory(**arguments)
    if not dataclasses.is_dataclass(objective) or not isinstance(objective, Objective):
        raise EmpirError(
            f"{objective!r} is no training objective: derive a frozen dataclass from "
            "empir.training.Objective"
        )
    return objective
