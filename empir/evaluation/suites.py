"""Suites of attacks as data: the adaptive suite, its controls, and the attacks of the curves."""

import itertools
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any, Dict, Tuple

from empir import attacks
from empir.errors import EmpirError
from empir.evaluation.specs import DECIDED, LIKELY, AttackSpec
from empir.evaluation.threat import Threat
from empir.evaluation.views import EOT_SAMPLES, ViewSpec
from empir.models.ensemble import Ensemble

#: Number of images that the controls and the curves attack: the first of those evaluated. The
#: curve of iterations, by which convergence is judged, has more; that of CW's distances a quarter.
SAMPLE, CONVERGENCE_SAMPLE = 200, 500
#: Number of images on which an attack is tried that seldom finds anything more, and by which it
#: goes on as long as it does (`AttackSpec.pilot`).
PILOT = 50
#: Queries of the square attack: those of AutoAttack.
QUERIES = 5000
#: Steps of the long attacks. The first has so many restarts; the second one, which has more,
#: attacks only if at most so many images are left.
LONG_STEPS, LONG_RESTARTS = 1000, 3
FINAL_RESTARTS, FINAL_IMAGES = 20, 20
#: Number of images on which attacks that see only decisions show that they can succeed at all, and
#: the radius, as a multiple of the evaluation's, but at most half of the range of images.
DECISION_SAMPLE, DECISION_RADIUS = 20, 4
#: Radii at which the curve of accuracy is measured, as multiples of the evaluation's radius. Those
#: that are larger than the range of pixel values are left out.
RADII = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 1, 1.25, 1.5, 2, 3, 4, 8, 16, 32, 64)
#: The smallest radius is halved up to this many times while the attack at that radius leaves less
#: than half of the images classified correctly.
HALVINGS = 6
#: Numbers of iterations, and of restarts, at which the convergence curves are measured. A suite
#: with more of them doubles the last one until it reaches its own. That of iterations is doubled
#: further, up to `MOST_ITERATIONS`, until it has converged.
ITERATIONS = (10, 20, 40, 80, 160)
MOST_ITERATIONS = 1280
RESTARTS = (1, 2, 5, 10)
CW_ITERATIONS = 100

#: Keyword arguments of an `AttackSpec`.
_Options = Dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How long Auto-PGD attacks the images that are still classified correctly.

    Attributes:
      nb_iter: iterations; transfers take half of them.
      restarts: random starts of the attack that has several.

    Raises:
      EmpirError: for a number below 1.
    """

    nb_iter: int = 100
    restarts: int = 5

    def __post_init__(self):
        for name, value in asdict(self).items():
            if value < 1:
                raise EmpirError(f"{name}={value!r} must be at least 1")


def doubled(counts: Tuple[int, ...], least: int) -> Tuple[int, ...]:
    """Counts, followed by doublings of the last until one is at least `least`."""
    while counts[-1] < least:
        counts += (2 * counts[-1],)
    return counts


def _apgd(name, *view, **options):
    return AttackSpec(f"apgd-{name}", "apgd", ViewSpec(*view), **options)


def adaptive(
    ensemble: Ensemble,
    norm: str = "linf",
    outside: int = 0,
    effort: Effort = Effort(),
    classes: int = 10,
) -> Tuple[AttackSpec, ...]:
    """The adaptive suite for an ensemble: cheap attacks first, those that seldom succeed last.

    Args:
      ensemble: its members decide which views there are.
      norm: "linf", or "l2", for which there are no square attack and no RayS.
      outside: number of networks outside the ensemble that attacks are transferred from.
      effort: iterations and restarts on the images that are still classified correctly.
      classes: number of classes. Losses that compare the three largest logits are left out if there
        are fewer than three.
    """
    own = own_view(ensemble)
    specs = _on_every_image() + _on_the_decision(ensemble, own, effort.nb_iter, classes)
    specs += _on_the_quantizers(ensemble, "smooth", effort.nb_iter)
    specs += _with_restarts(own, effort)
    specs += _with_pilots(ensemble, own, outside, effort.nb_iter, classes)
    if ensemble.draws:
        specs = [_sampled(spec) for spec in specs]
        own = replace(own, samples=EOT_SAMPLES)
    specs = _with_starts_of_their_own(specs)
    if norm == "linf":
        specs += [
            AttackSpec("square", "square", own, steps=QUERIES, images=PILOT, pilot=True),
            AttackSpec("rays", "rays", steps=1000, images=PILOT, pilot=True),
        ]
    specs.append(AttackSpec("hopskipjump", "hopskipjump", steps=10, images=20, pilot=True))
    return tuple(specs)


def own_view(ensemble: Ensemble) -> ViewSpec:
    """The view whose margin is positive where the ensemble's decision rule is wrong."""
    if len(ensemble.members) == 1 or ensemble.combine == "mean_logits":
        return ViewSpec()
    return ViewSpec("vote" if ensemble.combine == "vote" else "mean_probs")


def _on_every_image():
    """Attacks whose strengths are compared, so that they attack every image."""
    return [
        AttackSpec("noise", "noise", restarts=10, everyone=True),
        AttackSpec("fgsm", "fgsm", ViewSpec("mean_logits", "ce"), everyone=True),
        _apgd("ce", "mean_logits", "ce", steps=40, everyone=True),
        _apgd("margin", "mean_logits", "margin", steps=40),
    ]


def _on_the_decision(ensemble, own, steps, classes):
    """Attacks that follow the decision rule, and one that no member dominates.

    The last one starts from where another view led to.
    """
    specs = []
    if own.outputs == "vote":
        specs.append(_apgd("vote", "vote", "margin", steps=steps))
        specs += [_apgd(f"vote-{loss}", "vote", loss, steps=steps) for loss in ("next", "sum")]
    elif classes > 2:
        specs.append(_apgd("dlr", own.outputs, "dlr", steps=steps))
    if len(ensemble.members) > 1:
        specs.append(_apgd("balanced", "balanced", "margin", steps=steps))
    if specs:
        specs.append(_apgd("continued", *astuple(own), steps=steps, start=specs[-1].name))
    return specs


def _on_the_quantizers(ensemble, backward, steps):
    """The attack with that backward pass of the quantizers; none if nothing is quantized."""
    if not any(p.activation_bits for member in ensemble.members for p in member.precisions):
        return []
    outputs = "balanced" if len(ensemble.members) > 1 else "mean_logits"
    return [_apgd(backward, outputs, "margin", False, backward, steps=steps)]


def _with_restarts(own, effort):
    """Attacks on the decision rule with several random starts: short, then long."""
    loss = "sum" if own.outputs == "vote" else "margin"
    long = dict(steps=max(LONG_STEPS, effort.nb_iter), restarts=LONG_RESTARTS)
    return [
        _apgd("restarts", own.outputs, loss, steps=effort.nb_iter, restarts=effort.restarts),
        _apgd("long", *astuple(own), images=PILOT, pilot=True, **long),
    ]


def _with_pilots(ensemble, own, outside, steps, classes):
    """Attacks that seldom find anything more, which a few images show; and a long final one."""
    several = len(ensemble.members) > 1
    targets = dict(restarts=min(9, classes - 1), targets=LIKELY)
    specs, half = [_apgd("targeted", *astuple(own), steps=steps, **targets)], (steps + 1) // 2
    if own.outputs == "vote" and classes > 2:
        specs.append(_apgd("dlr", "mean_logits", "dlr", steps=steps))
    if classes > 2:
        specs.append(_apgd("scaled-ce", "mean_logits", "ce", True, steps=steps))
    if several:
        specs.append(_apgd("probs", "mean_probs", "ce", steps=steps))
    specs += _on_the_quantizers(ensemble, "open", steps)
    transfers = [f"member{k + 1}" for k in range(len(ensemble.members))] if several else []
    transfers += [f"outside{k + 1}" for k in range(outside)]
    specs += [_apgd(name, name, "margin", steps=half) for name in transfers]
    specs = [replace(spec, images=PILOT, pilot=True) for spec in specs]
    final = dict(restarts=FINAL_RESTARTS, at_most=FINAL_IMAGES)
    final["steps"] = max(LONG_STEPS, steps)
    return specs + [_apgd("final", *astuple(own), **final)]


def _with_starts_of_their_own(specs):
    """The attacks with different seeds, so that none repeats the random starts of another.

    The second seed is that of the control "control-seed".
    """
    seeds = itertools.chain([0], itertools.count(2))
    return [replace(spec, seed=next(seeds)) if _chooses_its_loss(spec) else spec for spec in specs]


def _chooses_its_loss(spec):
    """Whether the attack starts at random and has a loss to choose: Auto-PGD."""
    return attacks.row(spec.attack).takes("loss")


def _sampled(spec):
    """An attack whose view averages over passes of networks that draw at random."""
    if spec.view is None:
        return spec
    return replace(spec, view=replace(spec.view, samples=EOT_SAMPLES))


@dataclass(frozen=True)
class LeftOut:
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
        return asdict(self)


def left_out(norm: str, outside: int, classes: int) -> Tuple[LeftOut, ...]:
    """The attacks that `adaptive` with these arguments does not have and others do.

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
        reason = "it is there for the L-infinity norm only"
        found += [LeftOut(name, reason, False) for name in ("square", "rays")]
    return tuple(found)


def controls(threat: Threat, whole: float, own: ViewSpec) -> Tuple[AttackSpec, ...]:
    """Attacks that the checks compare the suite with.

    Args:
      threat: the threat model of the evaluation.
      whole: radius of the ball that holds every image.
      own: see `own_view`.
    """
    alike: _Options = dict(everyone=True, images=SAMPLE, part="control")
    specs = [
        AttackSpec("control-seed", "apgd", ViewSpec("mean_logits", "ce"), 40, seed=1, **alike),
        AttackSpec("control-range", "apgd", own, 40, eps=whole, **alike),
    ]
    if threat.norm == "linf":
        specs.append(AttackSpec("control-square", "square", own, 500, **alike))
    alike.update(images=DECISION_SAMPLE, eps=min(DECISION_RADIUS * threat.eps, whole / 2))
    specs += [
        AttackSpec("control-gradient", "apgd", own, 100, seed=1, **alike),
        AttackSpec("control-hopskipjump", "hopskipjump", steps=10, seed=1, **alike),
    ]
    if threat.norm == "linf":
        specs.append(AttackSpec("control-rays", "rays", steps=1000, seed=1, **alike))
    return tuple(specs)


def radius(eps: float, own: ViewSpec) -> AttackSpec:
    """The attack of a point of the curve of accuracy against radius."""
    options: _Options = dict(images=SAMPLE, eps=eps, part="radius")
    return AttackSpec(f"radius-{eps:.6g}", "apgd", own, steps=50, **options)


def iterations(steps: int, own: ViewSpec) -> AttackSpec:
    """The attack of a point of the curve of accuracy against iterations."""
    options: _Options = dict(images=CONVERGENCE_SAMPLE, part="steps")
    return AttackSpec(f"steps-{steps}", "apgd", own, steps=steps, **options)


def restarts(count: int, own: ViewSpec) -> AttackSpec:
    """The attack of the curve of accuracy against random starts; with many steps it needs none."""
    options: _Options = dict(
        steps=20, restarts=count, everyone=True, images=SAMPLE, part="restarts"
    )
    return AttackSpec(f"restarts-{count}", "apgd", own, **options)


def distortion(clip_range: Tuple[float, float]) -> AttackSpec:
    """The attack of the curve of success against distance: CW with nine search steps, no radius.

    Args:
      clip_range: lowest and highest value of an image, with which the learning rate grows.
    """
    low, high = clip_range
    own: _Options = dict(
        binary_search_steps=9, learning_rate=0.05 * (high - low), initial_const=1.0
    )
    own.update(abort_early=False, confidence=0)  # each image on its own
    options: _Options = dict(everyone=True, images=SAMPLE // 4, part="distortion", parameters=own)
    return AttackSpec("cw", "cw", steps=CW_ITERATIONS, **options)


def table(eps_iter: float, nb_iter: int = 40, cw_iterations: int = 50) -> Tuple[AttackSpec, ...]:
    """The four attacks of the paper's table on every image, as its code runs them.

    They lead away from the ensemble's own decisions, and differentiate its attack target
    (docs/original.md, Attacks).

    Args:
      eps_iter: step of BIM and PGD.
      nb_iter: steps of BIM and PGD.
      cw_iterations: steps of CW, which has no radius.
    """
    alike: _Options = dict(everyone=True, labels=DECIDED)
    steps: _Options = dict(steps=nb_iter, parameters=dict(eps_iter=eps_iter), **alike)
    return (
        AttackSpec("cw", "cw", steps=cw_iterations, **alike),
        AttackSpec("fgsm", "fgsm", **alike),
        AttackSpec("bim", "bim", **steps),
        AttackSpec("pgd", "pgd", **steps),
    )
