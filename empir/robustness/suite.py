"""A suite of attacks on an ensemble, and what it leaves: worst case per image.

An image counts as correct only if the ensemble decides its true class when clean and on whatever
any attack of the suite made of it. Some attacks see every image, so that their strengths can be
compared; the others see those that all attacks before them left correct, which costs little.
"""

import contextlib
import logging
import os
import time
from typing import Callable, ContextManager, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from empir import runs, runtime
from empir.attacks.base import noise, project
from empir.attacks.fgsm import FastGradientMethod
from empir.backend import tf
from empir.data import Dataset
from empir.ensemble import Ensemble, mean_logits
from empir.errors import EmpirError
from empir.progress import progress_bar
from empir.results import score
from empir.robustness.goals import Goal, GoalPGD, GoalSquare

log = logging.getLogger(__name__)

SCHEMA = 1
NORMS = {"linf": np.inf, "l2": 2}


class Trial(NamedTuple):
    """One attack of a suite.

    Attributes:
      name: of its folder.
      attack: noise, fgsm, apgd or square.
      goal: what apgd climbs.
      steps: of one round: gradients, or queries of square.
      rounds: random starts, or with `targeted` the classes tried: those of the largest mean logits
        on the clean image but the true one, from the largest on. An image leaves at its first
        success.
      targeted: whether each round leads to another class.
      everyone: attack every image, not only those that are left.
    """

    name: str
    attack: str
    goal: Optional[Goal] = None
    steps: int = 1
    rounds: int = 1
    targeted: bool = False
    everyone: bool = False

    def describe(self) -> dict:
        """The trial as plain data."""
        return dict(self._asdict(), goal=self.goal and str(self.goal))


def default_suite(ensemble: Ensemble, norm: str = "linf") -> Tuple[Trial, ...]:
    """The trials for an ensemble, the cheap ones first.

    Args:
      ensemble: its members decide which goals there are.
      norm: "linf", or "l2", for which there is no square attack and no single step.
    """
    several = len(ensemble.members) > 1
    quantized = any(p.activation_bits for member in ensemble.members for p in member.precisions)

    def apgd(name, *goal, steps=100, **options):
        return Trial("apgd-" + name, "apgd", Goal(*goal), steps, **options)

    trials = [Trial("noise", "noise", rounds=10, everyone=True)]
    trials += [Trial("fgsm", "fgsm", everyone=True)] if norm == "linf" else []
    trials += [
        apgd("ce", "mean_logits", "ce", steps=40, everyone=True),
        apgd("margin", "mean_logits", "margin", steps=40, everyone=True),
        apgd("dlr", "mean_logits", "dlr"),
        apgd("scaled-ce", "mean_logits", "ce", True),
    ]
    if several:
        trials += [apgd("probs", "mean_probs", "ce"), apgd("balanced", "balanced", "margin")]
        trials += [
            apgd("member%d" % n, "member%d" % n, "margin", steps=50)
            for n in range(1, len(ensemble.members) + 1)
        ]
    if quantized:
        trials += [
            apgd(name, "balanced" if several else "mean_logits", "margin", False, name)
            for name in ("open", "smooth")
        ]
    trials.append(apgd("restarts", "mean_logits", "margin", rounds=5))
    trials.append(apgd("targeted", "mean_logits", "margin", rounds=9, targeted=True))
    trials += [Trial("square", "square", steps=1000)] if norm == "linf" else []
    return tuple(trials)


class Setting(NamedTuple):
    """What is evaluated: everything, beside the trials, that determines the numbers.

    Attributes:
      open: makes a context in which there is a (session, `Ensemble`) in a graph of their own: each
        trial gets one, as TensorFlow optimizes all of a graph anew for each addition to it.
      data: clean images and true labels.
      eps: radius, in units of the images.
      norm: of `NORMS`.
      seed: of everything random.
      batch_size: images per graph call; changes results by rounding only.
      architecture: name of the network, for the record.
    """

    open: Callable[[], ContextManager]
    data: Dataset
    eps: float
    norm: str = "linf"
    seed: int = runtime.DEFAULT_SEED
    batch_size: int = 100
    architecture: Optional[str] = None

    def check(self):
        """Raise `EmpirError` for a value out of range."""
        if self.norm not in NORMS:
            raise EmpirError("norm=%r: choose from %s" % (self.norm, ", ".join(NORMS)))
        if not 0 < self.eps < np.inf:
            raise EmpirError("eps=%r must be finite and greater than 0" % self.eps)
        if not 0 <= self.seed < 2**31:
            raise EmpirError("seed=%r must be 0..2^31 - 1" % self.seed)

    def describe(self, ensemble: Ensemble) -> dict:
        """The setting of an ensemble as plain data."""
        return {
            "schema": SCHEMA,
            "dataset": self.data.name,
            "architecture": self.architecture,
            "combine": ensemble.combine,
            "members": [member.describe() for member in ensemble.members],
            "eps": self.eps,
            "norm": self.norm,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "num_examples": len(self.data.labels),
            "data": {"split": self.data.split, "sha256": self.data.digest()},
        }


class _Graph:
    """A trial's operations; `run` is one round of it on some images."""

    def __init__(self, setting: Setting, trial: Optional[Trial], ensemble: Ensemble, session):
        data, classes = setting.data, setting.data.num_classes
        self._setting, self._session = setting, session
        self._images = tf.placeholder(tf.float32, (None,) + data.images.shape[1:])
        self._labels = tf.placeholder(tf.float32, [None, classes])
        self._towards = tf.placeholder(tf.float32, [None, classes])
        self._index = tf.placeholder(tf.int64, [None])
        image = self._images
        if trial is not None:
            image = self._adversarial(trial, ensemble, session)
            image.set_shape(self._images.shape)
        logits = ensemble.member_logits(image)
        self._fetches = {
            "adversarial": image,
            "decision": ensemble.decisions(logits)[ensemble.combine],
            "members": tf.argmax(tf.stack(logits, axis=1), axis=2),
            "mean_logits": mean_logits(logits),
        }

    def _adversarial(self, trial, ensemble, session):
        setting = self._setting
        low, high = setting.data.clip_range
        order = NORMS[setting.norm]
        common = dict(eps=setting.eps, clip_min=low, clip_max=high)
        if trial.attack == "noise":
            drawn = noise(self._images, setting.seed, self._index, normal=order == 2)
            drawn = project(drawn * (setting.eps if order == np.inf else 1e6), order, setting.eps)
            return tf.clip_by_value(self._images + drawn, low, high)
        if trial.attack == "fgsm":
            attack = FastGradientMethod(ensemble.target("fgsm"), sess=session)
            return attack.generate(self._images, y=self._labels, **common)
        common.update(index=self._index, seed=setting.seed, nb_iter=trial.steps, y=self._labels)
        if trial.attack == "square":
            return GoalSquare(ensemble, sess=session).generate(self._images, **common)
        towards = self._towards if trial.targeted else None
        attack = GoalPGD(ensemble, trial.goal, towards, sess=session)
        return attack.generate(self._images, ord=order, **common)

    def run(self, images, labels, index, towards=None) -> dict:
        """The outputs on some images, arrays by name."""
        eye = np.eye(self._setting.data.num_classes, dtype=np.float32)
        feed = {
            self._images: images,
            self._labels: eye[labels],
            self._towards: eye[labels if towards is None else towards],
            self._index: index,
        }
        return self._session.run(self._fetches, feed)


def _attack_chunk(graph: _Graph, setting: Setting, trial: Trial, rows, ranking) -> dict:
    """Arrays of the images `rows`: the last round's outputs of each, or of its success."""
    data = setting.data
    images, labels = data.images[rows], data.labels[rows]
    kept = {"row": rows, "rounds": np.zeros(len(rows), np.int16)}
    left = np.arange(len(rows))
    for number in range(trial.rounds):
        towards = ranking[rows[left], number] if trial.targeted else None
        index = rows[left] + number * len(data.labels)
        found = graph.run(images[left], labels[left], index, towards)
        _check(setting, trial, rows[left], images[left], found["adversarial"])
        for name, values in found.items():
            kept.setdefault(name, np.zeros((len(rows),) + values.shape[1:], values.dtype))
            kept[name][left] = values
        kept["rounds"][left] = number + 1
        left = left[found["decision"] == labels[left]]
        if not len(left):
            break
    kept["success"] = kept["decision"] != labels
    return kept


def _check(setting, trial, rows, images, adversarial):
    """An adversarial image counts only if it is finite, in range and inside its ball."""
    low, high = setting.data.clip_range
    change = (adversarial - images).reshape(len(rows), -1).astype(np.float64)
    distance = np.linalg.norm(change, NORMS[setting.norm], axis=1)
    flat = adversarial.reshape(len(rows), -1)
    bad = ~((flat >= low) & (flat <= high)).all(axis=1) | ~(distance <= setting.eps * (1 + 1e-5))
    if bad.any():
        raise EmpirError(
            "%s gave an invalid image: example %d is not finite, leaves [%g, %g], or is %g away"
            % (trial.name, rows[bad][0], low, high, distance[bad][0])
        )


class Outcome(NamedTuple):
    """What a suite left.

    Attributes:
      record: as in result.json.
      correct: bool [n], images that are correct when clean and under every trial.
    """

    record: dict
    correct: np.ndarray


def run(
    setting: Setting, out: str, trials: Optional[Sequence[Trial]] = None, progress: bool = True
) -> Outcome:
    """Run a suite into a folder, going on from what is there.

    Args:
      setting: what is evaluated.
      out: folder: result.json, and per trial a folder with result.json and examples.npz.
      trials: the suite; order matters to those that see only what is left. None = the default one.
      progress: show progress bars.

    Raises:
      ResumeError: if `out` holds another run.
      EmpirError: for values out of range, or an attack that leaves its ball.
    """
    setting.check()
    began, labels = time.time(), setting.data.labels
    with setting.open() as (session, ensemble):
        trials = default_suite(ensemble, setting.norm) if trials is None else trials
        head = setting.describe(ensemble)
        runs.claim(out, dict(head, trials=[t.describe() for t in trials]), True, "evaluation")
        clean = _clean(setting, ensemble, session)
    correct = clean["decision"] == labels
    ranking = _ranking(clean["mean_logits"], labels)
    rows = []
    for number, trial in enumerate(trials, 1):
        seen = np.arange(len(labels)) if trial.everyone else np.flatnonzero(correct)
        row = _run_trial(setting, trial, os.path.join(out, trial.name), seen, ranking, progress)
        with np.load(os.path.join(out, trial.name, "examples.npz"), allow_pickle=False) as kept:
            correct[kept["row"][kept["success"]]] = False
        row["worst_case"] = float(correct.mean())
        rows.append(row)
        log.info(
            "[%d/%d] %s: %d images attacked, %.2f %% of all correct so far (%.0f s)",
            number,
            len(trials),
            trial.name,
            len(seen),
            100 * row["worst_case"],
            row["seconds"],
        )
    versions, commit = runtime.provenance()
    record = dict(
        head,
        clean_accuracy=float(np.mean(clean["decision"] == labels)),
        worst_case_accuracy=float(correct.mean()),
        interval=[limit / 100 for limit in score(float(correct.mean()), len(labels)).interval],
        trials=rows,
        seconds=round(time.time() - began, 3),
        versions=versions,
        git_commit=commit,
        command=runtime.command(),
    )
    runs.write_json(os.path.join(out, "result.json"), record)
    return Outcome(record, correct)


def _clean(setting, ensemble, session):
    graph = _Graph(setting, None, ensemble, session)
    data, parts = setting.data, []
    for start in range(0, len(data.labels), setting.batch_size):
        rows = np.arange(start, min(start + setting.batch_size, len(data.labels)))
        found = graph.run(data.images[rows], data.labels[rows], rows)
        parts.append({name: found[name] for name in ("decision", "mean_logits")})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _ranking(logits, labels):
    """Wrong classes of each image by their mean logit, the largest first; [n, classes - 1]."""
    order = np.argsort(-logits, axis=1, kind="stable")
    return order[order != labels[:, np.newaxis]].reshape(len(labels), -1)


def _run_trial(setting, trial, out, seen, ranking, progress) -> dict:
    """Run a trial into its folder, or take what is there; its row of the record."""
    path = os.path.join(out, "result.json")
    if os.path.exists(path):
        return runs.read_json(path)
    partial = os.path.join(out, runs.PARTIAL)
    os.makedirs(partial, exist_ok=True)
    store = runs.ChunkStore(partial)
    starts = range(0, len(seen), setting.batch_size)
    began = time.time()
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(progress_bar(len(seen), trial.name, "image", progress))
        graph = None
        for start in starts:
            rows = seen[start : start + setting.batch_size]
            if start not in store:
                if graph is None:
                    session, ensemble = stack.enter_context(setting.open())
                    graph = _Graph(setting, trial, ensemble, session)
                store.add(start, _attack_chunk(graph, setting, trial, rows, ranking))
            bar.update(len(rows))
    keys = ("row", "rounds", "success", "decision", "members", "adversarial")
    if len(seen):
        store.write_npz(os.path.join(out, "examples.npz"), keys, starts)
        success = store.column("success", starts)
    else:
        success = np.zeros(0, bool)
        np.savez(os.path.join(out, "examples.npz"), row=seen, success=success)
    row = dict(
        trial.describe(),
        attacked=len(seen),
        broken=int(success.sum()),
        accuracy=float(1 - success.mean()) if trial.everyone else None,
        seconds=round(time.time() - began, 3),
    )
    runs.write_json(path, row)
    store.remove()
    return row
