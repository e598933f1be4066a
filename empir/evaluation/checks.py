"""Checks: signs that an evaluation overstates the robustness of a model, each with a measurement.

The criteria follow Carlini et al. 2019 (arXiv 1902.06705) and AutoAttack's flags (Croce and Hein
2020, arXiv 2003.01690); docs/robustness.md explains each, and what to do about it.
"""

from dataclasses import asdict, dataclass, field
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from empir.evaluation.probes import Probe
from empir.evaluation.suites import LeftOut

#: Shares of the images above which a check fails.
ZERO_IMAGES = 0.01  # with a zero gradient
FLAT_IMAGES = 0.1  # with a cross-entropy of zero
BEATEN = 0.02  # on which a single step succeeds and many steps fail
BLACK_BOX = 0.05  # on which a search without gradients succeeds and Auto-PGD fails
OTHER_SEED = 0.1  # on which one seed succeeds and another fails
OTHER_CHUNK = 0.05  # with logits that depend on the chunk
#: Change of the accuracy by the last doubling of iterations above which the attack has not
#: converged: in absolute terms, and as a share of the accuracy before.
NOT_CONVERGED, NOT_CONVERGED_SHARE = 0.02, 0.1
#: If the last of the suite's random starts succeeds on more than this share of the images that were
#: left to it, more starts would find more.
LAST_START = 0.05
#: The best attack that sees only decisions must succeed on at least this share of the images on
#: which Auto-PGD succeeds at a larger radius.
BY_DECISIONS = 0.5
#: The suite's attack with several random starts.
STARTS = "apgd-restarts"
#: If random noise succeeds on more than this share of the images that an attack succeeds on, the
#: attack counts as no better than noise.
AS_GOOD = 0.5


@dataclass(frozen=True)
class Check:
    """A check and its result.

    Attributes:
      name: its anchor in docs/robustness.md.
      title: what should be the case.
      passed: whether it is; None = it could not be judged.
      reason: what was measured.
    """

    name: str
    title: str
    passed: Optional[bool]
    reason: str

    def describe(self) -> dict:
        """The check as plain data, with where it is explained."""
        return dict(asdict(self), see="docs/robustness.md#" + self.name)


@dataclass(frozen=True)
class Evidence:
    """Measurements that the checks are made on.

    Attributes:
      probe: of the model.
      success: attack -> bool [n], whether it succeeded on each of the first n images, whatever n.
      correct: bool [all], images that are classified correctly when clean.
      curves: of `curves.measure`.
      starts: "success", bool [n], and "rounds", int [n], the number of starts made, of the suite's
        attack with several random starts; empty if there is none.
      left_out: attacks of the whole suite that could not be run; None = the suite is not the
        default one, so that nobody can say.
    """

    probe: Probe
    success: Dict[str, np.ndarray]
    correct: np.ndarray
    curves: dict = field(default_factory=dict)
    starts: dict = field(default_factory=dict)
    left_out: Optional[Sequence[LeftOut]] = None

    @classmethod
    def of(
        cls,
        evaluation,
        probe: Probe,
        curves: dict,
        left_out: Optional[Sequence[LeftOut]] = None,
    ) -> "Evidence":
        """The evidence of a `suite.Evaluation`; the other arguments are attributes."""
        success = {
            row["name"]: evaluation.arrays(row["name"], ["success"])["success"]
            for row in evaluation.rows
            if row["everyone"]
        }
        data = evaluation.setting.data
        correct = evaluation.clean["decision"] == data.labels
        ran = STARTS in [row["name"] for row in evaluation.rows]
        starts = evaluation.arrays(STARTS, ("success", "rounds")) if ran else {}
        return cls(probe, success, correct, curves, starts, left_out)

    def pair(self, *names: str) -> Tuple[np.ndarray, np.ndarray]:
        """Two attacks' successes, on the images that both attacked."""
        count = min(len(self.success[name]) for name in names)
        one, other = (self.success[name][:count] for name in names)
        return one, other


def judge(evidence: Evidence) -> List[Check]:
    """Make all checks."""
    checks = []
    for name, (title, needs, criterion) in CHECKS.items():
        missing = [name for name in needs if name not in evidence.success]
        if missing:
            passed, reason = None, "Not judged: the suite has no %s." % ", ".join(missing)
        elif not evidence.probe.images and criterion is not _complete:  # it needs no images
            passed, reason = None, "Not judged: no clean image is classified correctly."
        else:
            passed, reason = criterion(evidence)
        checks.append(Check(name, title, passed, reason))
    return checks


def _zero_gradients(evidence):
    probe = evidence.probe
    return probe.zero_images <= ZERO_IMAGES, (
        "The cross-entropy's gradient is zero everywhere at %s of the clean images, and at %s of "
        "all pixels." % (_percent(probe.zero_images), _percent(probe.zero_pixels))
    )


def _vanishing_gradients(evidence):
    share = evidence.probe.flat_images
    return share <= FLAT_IMAGES, (
        "The cross-entropy is zero in float32 at %s of the clean images, so that its gradient does "
        "not depend on the true class." % _percent(share)
    )


def _single_step(evidence):
    one, many = evidence.pair("fgsm", "apgd-ce")
    share = float((one & ~many).mean())
    return share <= BEATEN, (
        "One step (FGSM) succeeds on %s of the images on which 40 steps of the same loss fail."
        % _percent(share)
    )


def _black_box(evidence):
    blind, guided = evidence.pair("control-square", "apgd-ce")
    share = float((blind & ~guided).mean())
    return share <= BLACK_BOX, (
        "A random search without gradients (Square) succeeds on %s of the images on which Auto-PGD "
        "on the cross-entropy fails." % _percent(share)
    )


def _noise(evidence):
    drawn, attacked = evidence.pair("noise", "apgd-ce")
    correct = evidence.correct[: len(drawn)]
    by_noise, by_attack = (int((success & correct).sum()) for success in (drawn, attacked))
    return not by_noise or by_noise < AS_GOOD * by_attack, (
        "Noise of the same radius succeeds on %d of the images, Auto-PGD on the cross-entropy "
        "on %d." % (by_noise, by_attack)
    )


def _large_radius(evidence):
    accuracy = 1 - float(evidence.success["control-range"].mean())
    return accuracy == 0, (
        "At a radius that holds every image, accuracy under Auto-PGD is "
        f"{_percent(accuracy)}; it must be 0."
    )


def has_converged(points: Sequence[Sequence[float]]) -> bool:
    """Whether the last doubling of a curve of accuracy against iterations changed little."""
    if len(points) < 2:
        return False
    before, after = (accuracy for _, accuracy in points[-2:])
    return abs(before - after) <= min(NOT_CONVERGED, NOT_CONVERGED_SHARE * before)


def _convergence(evidence):
    points = evidence.curves.get("steps", ())
    if len(points) < 2:
        return None, "Not judged: there is no curve of accuracy against iterations."
    (few, before), (many, after) = points[-2:]
    text = "Accuracy is %s after %d iterations and %s after %d."
    return has_converged(points), text % (_percent(before), few, _percent(after), many)


def _restarts(evidence):
    success, starts = evidence.starts.get("success", ()), evidence.starts.get("rounds", ())
    if not len(success):
        return None, "Not judged: no image was left to the attack with several random starts."
    if success.all():
        return True, "No image is left after %d random starts." % starts.max()
    last = starts.max()
    left = starts == last
    share = float(success[left].mean())
    return share <= LAST_START, "Random start %d succeeds on %s of the %d images left to it." % (
        last,
        _percent(share),
        left.sum(),
    )


def _decisions(evidence):
    guided = evidence.success["control-gradient"]
    found = {name: evidence.success.get("control-" + name) for name in ("hopskipjump", "rays")}
    counts = {name: int((guided & by).sum()) for name, by in found.items() if by is not None}
    told = ", ".join("%s on %d" % item for item in counts.items())
    return bool(max(counts.values()) >= BY_DECISIONS * guided.sum()), (
        "At a larger radius Auto-PGD succeeds on %d of %d images; of these %s."
        % (guided.sum(), len(guided), told)
    )


def _chunk_size(evidence):
    share = evidence.probe.chunked
    if evidence.probe.repeated:
        return None, "Not judged: logits differ from call to call."
    return share <= OTHER_CHUNK, (
        "Logits of %s of the images change with the images that share their chunk."
        % _percent(share)
    )


def _seed(evidence):
    one, other = evidence.pair("apgd-ce", "control-seed")
    share = float((one != other).mean())
    text = "Another seed decides otherwise on %s of the images." % _percent(share)
    if evidence.probe.repeated:
        changed = _percent(evidence.probe.repeated)
        text += " The model draws at random: logits of %s differ from call to call." % changed
    return share <= OTHER_SEED and not evidence.probe.repeated, text


def _probabilities(evidence):
    members = evidence.probe.probabilities
    if not members:
        return True, "No member's outputs look like probabilities."
    numbers = ", ".join(map(str, members))
    return False, "Member %s gives numbers in [0, 1] that add up to one." % numbers


def _complete(evidence):
    if evidence.left_out is None:
        return None, "Not judged: the attacks are not those of the default suite."
    if not evidence.left_out:
        return True, "No attack of the suite was left out."
    names = ", ".join(attack.attack for attack in evidence.left_out)
    curable = any(attack.curable for attack in evidence.left_out)
    return False if curable else None, "Not run: %s. The table of attacks says why." % names


def _percent(share):
    return "%.1f %%" % (100 * share)


#: name -> (title, attacks that it needs, criterion).
CHECKS: Dict[str, Tuple[str, Tuple[str, ...], Callable]] = {
    "zero-gradients": ("Gradients are not zero", (), _zero_gradients),
    "vanishing-gradients": ("The loss does not vanish", (), _vanishing_gradients),
    "single-step": ("Many steps beat one", ("fgsm", "apgd-ce"), _single_step),
    "black-box": ("Gradients beat blind search", ("control-square", "apgd-ce"), _black_box),
    "noise": ("Attacks beat noise", ("noise", "apgd-ce"), _noise),
    "large-radius": ("A large radius leaves nothing", ("control-range",), _large_radius),
    "convergence": ("More iterations change nothing", (), _convergence),
    "restarts": ("More random starts change nothing", (), _restarts),
    "decisions": (
        "An attack that sees only decisions works",
        ("control-gradient", "control-hopskipjump"),
        _decisions,
    ),
    "chunk-size": ("Results do not depend on the chunk", (), _chunk_size),
    "seed": ("Results do not depend on the seed", ("apgd-ce", "control-seed"), _seed),
    "probabilities": ("Logits are logits", (), _probabilities),
    "complete": ("Every attack of the suite was run", (), _complete),
}
