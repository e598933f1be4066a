"""The attacks of a robustness evaluation, as data: the suite, its controls, and the curves'."""

from typing import NamedTuple, Optional, Tuple

from empir.errors import EmpirError
from empir.evaluation.goals import DRAWS, Goal
from empir.models.ensemble import Ensemble

#: Number of images that the controls and the curves attack: the first of those evaluated. The
#: curve of CW's distances attacks a quarter of them.
SAMPLE = 200
#: Radii at which the curve of accuracy is measured, as multiples of the evaluation's radius. Those
#: that are larger than the range of pixel values are left out.
RADII = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 1, 1.25, 1.5, 2, 3, 4, 8, 16, 32, 64)
#: The smallest radius is halved up to this many times while the attack at that radius leaves less
#: than half of the images classified correctly.
HALVINGS = 6
#: Numbers of iterations, and of restarts, at which the convergence curves are measured. A suite
#: with more of them doubles the last one until it reaches its own.
ITERATIONS = (10, 20, 40, 80, 160)
RESTARTS = (1, 2, 5, 10)
CW_ITERATIONS = 100
#: Approximate cost of one step of each attack on one image, in steps of Auto-PGD. One iteration of
#: HopSkipJump makes many queries.
COSTS = {"noise": 0.5, "fgsm": 2, "apgd": 1, "square": 0.5, "cw": 9, "hopskipjump": 150}


class Trial(NamedTuple):
    """One attack of an evaluation.

    Attributes:
      name: of its folder.
      attack: noise, fgsm, apgd, square, cw (L2, 9 search steps) or hopskipjump.
      goal: what apgd climbs.
      steps: of one round: gradients, queries of square, iterations of hopskipjump, or of cw per
        search step.
      rounds: random starts, or with `targeted` the classes tried: those of the largest mean logits
        on the clean image but the true one, from the largest on. An image leaves at its first
        success.
      targeted: whether each round leads to another class.
      everyone: attack every image, not only those that are left.
      images: attack the first of them only; None = all.
      eps: radius, if not the evaluation's.
      seed: added to the evaluation's.
      part: what it is for: suite, control, or the curve radius, steps, restarts or distortion.
    """

    name: str
    attack: str
    goal: Optional[Goal] = None
    steps: int = 1
    rounds: int = 1
    targeted: bool = False
    everyone: bool = False
    images: Optional[int] = None
    eps: Optional[float] = None
    seed: int = 0
    part: str = "suite"

    def describe(self) -> dict:
        """The trial as plain data."""
        return dict(self._asdict(), goal=self.goal and str(self.goal))

    def work(self, images: int) -> float:
        """What it takes on so many images, in steps of Auto-PGD on one, if none leaves early."""
        draws = self.goal.draws if self.goal else 1
        return images * self.rounds * self.steps * draws * COSTS[self.attack]


class Effort(NamedTuple):
    """How long Auto-PGD attacks what is left.

    Attributes:
      nb_iter: iterations; transfers take half of them.
      restarts: random starts of the attack that has several.
    """

    nb_iter: int = 100
    restarts: int = 5

    def check(self):
        """Raise `EmpirError` for a value out of range."""
        for name, value in self._asdict().items():
            if value < 1:
                raise EmpirError("%s=%r must be at least 1" % (name, value))


def doubled(counts: Tuple[int, ...], least: int) -> Tuple[int, ...]:
    """Counts, followed by doublings of the last until one is at least `least`."""
    while counts[-1] < least:
        counts += (2 * counts[-1],)
    return counts


def _apgd(name, *goal, steps, **options):
    return Trial("apgd-" + name, "apgd", Goal(*goal), steps, **options)


def default_suite(
    ensemble: Ensemble,
    norm: str = "linf",
    outside: int = 0,
    effort: Effort = Effort(),
    classes: int = 10,
) -> Tuple[Trial, ...]:
    """The trials for an ensemble, the cheap ones first, those without gradients last.

    Args:
      ensemble: its members decide which goals there are.
      norm: "linf", or "l2", for which there is no square attack.
      outside: number of networks outside the ensemble that attacks are transferred from.
      effort: iterations and restarts on the images that are still classified correctly.
      classes: number of classes. Losses that compare the three largest logits are left out if there
        are fewer than three.
    """
    steps, half = effort.nb_iter, (effort.nb_iter + 1) // 2
    targets = min(9, classes - 1)
    several = len(ensemble.members) > 1
    quantized = any(p.activation_bits for member in ensemble.members for p in member.precisions)
    trials = [
        Trial("noise", "noise", rounds=10, everyone=True),
        Trial("fgsm", "fgsm", everyone=True),
        _apgd("ce", "mean_logits", "ce", steps=40, everyone=True),
        _apgd("margin", "mean_logits", "margin", steps=40, everyone=True),
    ]
    if classes > 2:
        trials += [
            _apgd("dlr", "mean_logits", "dlr", steps=steps),
            _apgd("scaled-ce", "mean_logits", "ce", True, steps=steps),
        ]
    if several:
        trials += [
            _apgd("probs", "mean_probs", "ce", steps=steps),
            _apgd("balanced", "balanced", "margin", steps=steps),
        ]
        trials += [
            _apgd("member%d" % n, "member%d" % n, "margin", steps=half)
            for n in range(1, len(ensemble.members) + 1)
        ]
    trials += [
        _apgd("outside%d" % n, "outside%d" % n, "margin", steps=half) for n in range(1, outside + 1)
    ]
    if quantized:
        trials += [
            _apgd(
                name, "balanced" if several else "mean_logits", "margin", False, name, steps=steps
            )
            for name in ("open", "smooth")
        ]
    trials += [
        _apgd("restarts", "mean_logits", "margin", steps=steps, rounds=effort.restarts),
        _apgd("targeted", "mean_logits", "margin", steps=steps, rounds=targets, targeted=True),
    ]
    if ensemble.draws:
        trials = [t._replace(goal=t.goal and t.goal._replace(draws=DRAWS)) for t in trials]
    trials += [Trial("square", "square", steps=1000)] if norm == "linf" else []
    trials.append(Trial("hopskipjump", "hopskipjump", steps=10, images=50))
    return tuple(trials)


class LeftOut(NamedTuple):
    """An attack of the whole suite that cannot be run on what is evaluated.

    Attributes:
      attack: its name, without the number of a network.
      reason: why it cannot be run, and what to give so that it can, as a clause.
      curable: whether there is something to give.
    """

    attack: str
    reason: str
    curable: bool

    def describe(self) -> dict:
        """The attack that was left out as plain data."""
        return dict(self._asdict())


def left_out(norm: str, outside: int, classes: int) -> Tuple[LeftOut, ...]:
    """The attacks that `default_suite` with these arguments does not have and others do.

    A suite that lacks an attack may find less, so its record, report and checks name each one.
    """
    found = []
    if classes <= 2:
        reason = "the loss compares three classes, and there are %d" % classes
        found += [LeftOut(name, reason, False) for name in ("apgd-dlr", "apgd-scaled-ce")]
    if not outside:
        reason = (
            "there is no network outside the ensemble to transfer it from; name one of the "
            "members' architecture and width: empir robustness "
            "--outside=PRECISION:CHECKPOINT"
        )
        found.append(LeftOut("apgd-outside", reason, True))
    if norm != "linf":
        found.append(LeftOut("square", "it is there for the L-infinity norm only", False))
    return tuple(found)


def controls(norm: str, whole: float) -> Tuple[Trial, ...]:
    """What the verdicts compare the suite with.

    Args:
      norm: see `default_suite`.
      whole: radius of the ball that holds every image.
    """
    alike = dict(everyone=True, images=SAMPLE, part="control")
    plain = Goal("mean_logits", "ce")
    trials = [
        Trial("control-seed", "apgd", plain, 40, seed=1, **alike),
        Trial("control-range", "apgd", plain, 40, eps=whole, **alike),
    ]
    trials += [Trial("control-square", "square", steps=500, **alike)] if norm == "linf" else []
    return tuple(trials)


def radius(eps: float) -> Trial:
    """The trial of a point of the curve of accuracy against radius."""
    return Trial("radius-%.6g" % eps, "apgd", Goal(), 50, images=SAMPLE, eps=eps, part="radius")


def iterations(steps: int) -> Trial:
    """The trial of a point of the curve of accuracy against iterations."""
    name = "steps-%d" % steps
    return Trial(name, "apgd", Goal(), steps, everyone=True, images=SAMPLE, part="steps")


def restarts(count: int) -> Trial:
    """The trial of the curve of accuracy against random starts; few steps, or none is needed."""
    options = dict(rounds=count, everyone=True, images=SAMPLE, part="restarts")
    return Trial("restarts-%d" % count, "apgd", Goal(), 20, **options)


def distortion() -> Trial:
    """The trial of the curve of success against distance: CW, which has no radius."""
    options = dict(everyone=True, images=SAMPLE // 4, part="distortion")
    return Trial("cw", "cw", steps=CW_ITERATIONS, **options)
