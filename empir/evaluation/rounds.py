"""What is evaluated, and one attack on some of its images: the graph of a trial, round by round."""

from typing import Callable, ContextManager, List, NamedTuple, Optional

import numpy as np

from empir import runtime
from empir.attacks.base import as_function, in_shares, noise, project, unit
from empir.attacks.cw import CarliniWagnerL2
from empir.data import Dataset
from empir.errors import EmpirError
from empir.evaluation.ball import NORMS, diameter, reach
from empir.evaluation.decision import HopSkipJump
from empir.evaluation.goals import DRAWS, JUDGING_DRAWS, Goal, GoalPGD, GoalSquare, most_frequent
from empir.evaluation.measures import distances, refuse, require_valid
from empir.evaluation.trials import Trial
from empir.models.ensemble import Ensemble, mean_logits
from empir.models.model import describe_members
from empir.runtime import tf

SCHEMA = 2


class Subject(NamedTuple):
    """What is attacked, in a graph of its own.

    Attributes:
      session: holds its weights.
      ensemble: decides.
      outside: networks that are no members, which attacks are transferred from.
    """

    session: object
    ensemble: Ensemble
    outside: List = []


class Setting(NamedTuple):
    """What is evaluated: everything, beside the trials, that determines the numbers.

    Attributes:
      open: makes a context in which there is a `Subject` in a graph of its own: each trial gets
        one, as TensorFlow optimizes all of a graph anew for each addition to it.
      data: clean images and true labels.
      eps: radius, in units of the images.
      norm: of `NORMS`.
      seed: of everything random.
      batch_size: images per graph call; changes results by rounding only.
      architecture: name of the network, for the record.
      options: how the members were built, if not by default, e.g. {"nb_filters": 32}.
    """

    open: Callable[[], ContextManager]
    data: Dataset
    eps: float
    norm: str = "linf"
    seed: int = runtime.DEFAULT_SEED
    batch_size: int = 100
    architecture: str = "unnamed"
    options: dict = {}

    def check(self):
        """Raise `EmpirError` for a value out of range."""
        if self.norm not in NORMS:
            raise EmpirError("norm=%r: choose from %s" % (self.norm, ", ".join(NORMS)))
        if not 0 < self.eps < np.inf:
            raise EmpirError("eps=%r must be finite and greater than 0" % self.eps)
        if not 0 <= self.seed < 2**31 - 1:
            raise EmpirError("seed=%r must be 0..2^31 - 2" % self.seed)

    @property
    def order(self) -> float:
        """Order of the norm: inf or 2."""
        return NORMS[self.norm]

    @property
    def whole(self) -> float:
        """Radius of a ball around any image that holds all images."""
        low, high = self.data.clip_range
        return (high - low) * diameter(self.norm, self._size)

    def reach(self, eps: float) -> float:
        """Largest distance that counts as inside a ball of radius eps."""
        return reach(eps, self.norm, self.data.clip_range, self._size)

    @property
    def _size(self):
        """Values of an image."""
        return int(np.prod(self.data.images.shape[1:]))

    def describe(self, subject: Subject) -> dict:
        """The setting of a subject as plain data."""
        ensemble = subject.ensemble
        described = describe_members(ensemble.members, self.options, subject.outside)
        return {
            "schema": SCHEMA,
            "dataset": self.data.name,
            "architecture": self.architecture,
            "options": described["options"],
            "combine": ensemble.combine,
            "members": described["members"],
            "outside": described["outside"],
            "eps": self.eps,
            "norm": self.norm,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "num_examples": len(self.data.labels),
            "data": {k: v for k, v in self.data.describe().items() if k != "source"},
        }


def graph_key(trial: Trial) -> tuple:
    """What trials share whose operations are the same; Auto-PGD is fed its radius."""
    eps = None if trial.attack == "apgd" else trial.eps
    return trial.attack, trial.goal, trial.steps, trial.targeted, trial.seed, eps


class Graph:
    """A trial's operations on a subject; None = none, the outputs of clean images."""

    def __init__(self, setting: Setting, trial: Optional[Trial], subject: Subject):
        data, classes = setting.data, setting.data.num_classes
        self._setting, self._subject, self._trial = setting, subject, trial
        self._draws = DRAWS if subject.ensemble.draws else 1
        self._images = tf.placeholder(tf.float32, (None,) + data.images.shape[1:])
        self._labels = tf.placeholder(tf.float32, [None, classes])
        self._towards = tf.placeholder(tf.float32, [None, classes])
        self._index = tf.placeholder(tf.int64, [None])
        self._eps = tf.placeholder_with_default(np.float32(setting.eps), [])
        image = self._images
        if trial is not None and trial.attack != "hopskipjump":
            image = self._adversarial()
            image.set_shape(self._images.shape)
        self._fetches = dict(in_shares(self._outputs, image), adversarial=image)

    def _outputs(self, image):
        ensemble = self._subject.ensemble
        if not ensemble.draws:
            return _pass(ensemble, image)
        types = {"decision": tf.int64, "members": tf.int64, "mean_logits": tf.float32}
        passes = tf.map_fn(
            lambda _: _pass(ensemble, image),
            tf.range(JUDGING_DRAWS),
            dtype=types,
            parallel_iterations=1,
            back_prop=False,
        )
        classes = self._setting.data.num_classes
        return {
            "decision": most_frequent(passes["decision"], classes),
            "members": most_frequent(passes["members"], classes),
            "mean_logits": tf.reduce_mean(passes["mean_logits"], axis=0),
        }

    def _adversarial(self):
        setting, trial, subject = self._setting, self._trial, self._subject
        ensemble, session = subject.ensemble, subject.session
        eps = setting.eps if trial.eps is None else trial.eps
        low, high = setting.data.clip_range
        seed = setting.seed + trial.seed
        common = dict(eps=eps, clip_min=low, clip_max=high)
        if trial.attack == "noise":
            drawn = noise(self._images, seed, self._index, normal=setting.order == 2)
            drawn = project(drawn * (eps if setting.order == np.inf else 1e6), setting.order, eps)
            return tf.clip_by_value(self._images + drawn, low, high)
        if trial.attack == "cw":
            return self._cw(ensemble, low, high)
        if trial.attack == "fgsm":
            return tf.clip_by_value(self._images + self._step(ensemble, eps), low, high)
        common.update(index=self._index, seed=seed, nb_iter=trial.steps, y=self._labels)
        if trial.attack == "square":
            return GoalSquare(ensemble, sess=session).generate(self._images, **common)
        towards = self._towards if trial.targeted else None
        common.update(eps=self._eps)
        goal = trial.goal._replace(draws=max(trial.goal.draws, self._draws))
        attack = GoalPGD(ensemble, goal, towards, subject.outside, sess=session)
        return attack.generate(self._images, ord=setting.order, **common)

    def _step(self, ensemble, eps):
        """One step to the ball's surface along the gradient of the cross-entropy."""
        goal = Goal("mean_logits", "ce", draws=self._draws)
        told = self._images, self._labels
        gradient = as_function(lambda *now: goal.climb(ensemble, *now).gradient, *told)(*told)
        if self._setting.order == np.inf:
            return eps * tf.sign(gradient)
        return eps * unit(gradient)

    def _cw(self, ensemble, low, high):
        """CW-L2 with nine search steps, each example on its own: nothing aborts early."""
        return CarliniWagnerL2(ensemble.target("cw"), sess=self._subject.session).generate(
            self._images,
            y=self._labels,
            batch_size=self._setting.batch_size,
            binary_search_steps=9,
            max_iterations=self._trial.steps,
            learning_rate=0.05 * (high - low),
            initial_const=1.0,
            abort_early=False,
            clip_min=low,
            clip_max=high,
        )

    def run(self, images, labels, index, towards=None, eps=None) -> dict:
        """The outputs of one round on some images, arrays by name; eps for Auto-PGD."""
        eye = np.eye(self._setting.data.num_classes, dtype=np.float32)
        feed = {
            self._images: images,
            self._labels: eye[labels],
            self._towards: eye[labels if towards is None else towards],
            self._index: index,
            self._eps: self._setting.eps if eps is None else eps,
        }
        return self._subject.session.run(self._fetches, feed)


def _pass(ensemble, image):
    """What the ensemble and its members make of images, once."""
    logits = ensemble.member_logits(image)
    return {
        "decision": ensemble.decisions(logits)[ensemble.combine],
        "members": tf.argmax(tf.stack(logits, axis=1), axis=2),
        "mean_logits": mean_logits(logits),
    }


def attack_chunk(graph: Graph, setting: Setting, trial: Trial, rows, clean: dict) -> dict:
    """Arrays of the images `rows`: the last round's outputs of each, or of its success.

    Args:
      graph: of the trial.
      setting, trial: what is computed.
      rows: int [n], images.
      clean: of all images, "decision" [all] and "ranking" [all, classes - 1].
    """
    kept = {"row": rows, "rounds": np.zeros(len(rows), np.int16)}
    left = np.arange(len(rows))
    for number in range(trial.rounds):
        found = _round(graph, setting, trial, rows[left], number, clean)
        for name, values in found.items():
            kept.setdefault(name, np.zeros((len(rows),) + values.shape[1:], values.dtype))
            kept[name][left] = values
        kept["rounds"][left] = number + 1
        left = left[~found["success"]]
        if not len(left):
            break
    return kept


def _round(graph, setting, trial, rows, number, clean):
    data = setting.data
    images, labels = data.images[rows], data.labels[rows]
    if trial.attack == "hopskipjump":
        images = _hopskipjump(graph, setting, trial, rows, clean)
    towards = clean["ranking"][rows, number] if trial.targeted else None
    found = graph.run(images, labels, rows + number * len(data.labels), towards, trial.eps)
    found.update(distances(data.images[rows], found["adversarial"]))
    _check(setting, trial, rows, found)
    found["success"] = (found["decision"] != labels) & inside(setting, trial, found)
    return found


def inside(setting: Setting, trial: Trial, found: dict) -> np.ndarray:
    """Which images, with distances l2 and linf, are inside the trial's ball; CW has none."""
    if trial.attack == "cw":
        return np.ones(len(found["l2"]), bool)
    eps = setting.eps if trial.eps is None else trial.eps
    return found[setting.norm] <= setting.reach(eps)


def _check(setting, trial, rows, found):
    """An adversarial image counts only if it and its logits are finite, and where it should be."""
    images, logits = found["adversarial"], found["mean_logits"]
    require_valid(trial.name, rows, setting.data.clip_range, images, logits)
    if trial.attack != "hopskipjump":  # which looks for the closest, wherever that is
        bad = ~inside(setting, trial, found)
        away = found[setting.norm][int(np.argmax(bad))]
        refuse(trial.name, rows, "leaves its ball: it is %g away" % away, bad)


def _hopskipjump(graph, setting, trial, rows, clean):
    """The images that HopSkipJump finds, each from the nearest of another decision."""
    data = setting.data

    def decide(images):
        none = np.zeros(len(images), np.int64)
        return graph.run(images, none, none)["decision"]

    attack = HopSkipJump(
        decide, data.num_classes, data.clip_range, setting.eps, setting.order, trial.steps
    )
    found, labels = data.images[rows].copy(), data.labels[rows]
    nearest = _nearest(setting, found, labels, clean["decision"])
    for place in np.flatnonzero((clean["decision"][rows] == labels) & (nearest >= 0)):
        image, start = found[place], data.images[nearest[place : place + 1]][0]
        seed = [setting.seed, int(rows[place])]
        found[place] = attack(image, int(labels[place]), start, seed)
    return found


def _nearest(setting, images, labels, decided):
    """Row of the closest clean image, in L2, that is decided to be of another class; -1 = none."""
    nearest, closest = np.full(len(images), -1), np.full(len(images), np.inf)
    for start in range(0, len(decided), setting.batch_size):
        rows = np.arange(start, min(start + setting.batch_size, len(decided)))
        others = setting.data.images[rows]
        for place, (image, label) in enumerate(zip(images, labels)):
            away = ((others - image) ** 2).sum(axis=(1, 2, 3))
            away[decided[rows] == label] = np.inf
            if away.min() < closest[place]:
                nearest[place], closest[place] = rows[away.argmin()], away.min()
    return nearest
