"""Members -> decision, and the differentiable views of an ensemble that attacks may target.

An `Ensemble` is any number of networks, of any precision. The decision rules and attack targets
(docs/original.md, Defects and Combination rule):

    decision rule    class of an image
    mean_logits      argmax of the mean of the members' logits
    mean_probs       argmax of the mean of their softmax
    vote             the class with most votes (the paper's rule)

    attack target    tensor that an attack differentiates, as logits
    decision         what the decision rule takes its argmax of; for vote, the mean logits
    full_precision   the logits of the full-precision member alone
    majority_probs   mean softmax of the members that agree with the vote, used as if it were logits
    released         what the authors' code does: full_precision for CW and BIM, majority_probs
                     for FGSM, PGD and JSMA
"""

import copy
import math
from typing import Any, List, Optional, Sequence

from empir.errors import EmpirError
from empir.models import DECISION_RULES
from empir.models.model import Model, Predictions, Predictor
from empir.runtime import tf

ATTACK_TARGETS = ("decision", "full_precision", "majority_probs", "released")

#: What the authors' code differentiates on an ensemble, by the attack's name (docs/original.md,
#: Defects 11 to 14, and Attacks). It has no other attacks.
RELEASED_TARGETS = {
    "bim": "full_precision",
    "cw": "full_precision",
    "fgsm": "majority_probs",
    "jsma": "majority_probs",
    "pgd": "majority_probs",
}


def vote(decisions: Sequence, num_classes: int, reference: int):
    """Class with the most votes of each image.

    Args:
      decisions: one int64 [n] tensor per member.
      num_classes: number of classes.
      reference: index of the member that decides when classes tie, if its class is among them;
        otherwise the first member that voted for one of them does.

    Returns:
      int64 [n]. With three members: the class of at least two, else the reference's
      (docs/original.md, Combination rule).
    """
    members = len(decisions)
    order = [reference] + [i for i in range(members) if i != reference]
    score = 0
    bonus = []
    for rank, index in enumerate(order):
        ballot = tf.one_hot(decisions[index], num_classes, dtype=tf.int32)
        score += ballot * (members + 1)
        bonus.append(ballot * (members - rank))
    score += tf.reduce_max(tf.stack(bonus), axis=0)
    return tf.argmax(score, axis=1)


def mean_logits(logits: Sequence):
    """Mean of the members' logits, each float32 [n, classes]."""
    # Of two not by tf.add_n, in which intel-tensorflow fuses their biases (`runtime.rewriting`).
    total = logits[0] + logits[1] if len(logits) == 2 else tf.add_n(list(logits))
    return total / len(logits)


def mean_probs_logits(logits: Sequence):
    """Log of the mean of the members' softmax: logits whose softmax is `mean_probs`."""
    log_probs = tf.stack([tf.nn.log_softmax(member) for member in logits])
    return tf.reduce_logsumexp(log_probs, axis=0) - tf.log(float(len(logits)))


def majority_probs(logits: Sequence, reference: int):
    """Mean softmax, float32 [n, classes], of the members that agree with the vote."""
    decisions = [tf.argmax(member, axis=1) for member in logits]
    decided = vote(decisions, logits[0].shape[-1].value, reference)
    agree = [tf.expand_dims(tf.cast(tf.equal(d, decided), tf.float32), 1) for d in decisions]
    total = tf.add_n([tf.nn.softmax(member) * mask for member, mask in zip(logits, agree)])
    return total / tf.add_n(agree)


class Ensemble(Model):
    """Any number of members under one decision rule.

    Args:
      members: `Member`s; one makes every rule and target the member's own.
      combine: decision rule.
      attack_target: default target of `get_logits` and of attacks on this ensemble.
      temperature: factor on the members' logits inside the softmax of mean_probs and
        majority_probs, as in `layers.Softmax`.

    Attributes:
      session: the session that holds the weights, for `predict`; None = the default session.
      runtime: computes decisions and logits of images as arrays in place of TensorFlow, such as
        `empir.export.onnx_runtime.Outputs`; None = TensorFlow does.
      reopen: function that loads the same ensemble into a graph and a session of its own; None if
        nobody knows how.

    Raises:
      EmpirError: for an unknown rule or target, no members, the target full_precision without a
        full-precision member, or a temperature that is not positive and finite.
    """

    def __init__(
        self,
        members: Sequence[Model],
        combine: str = "mean_logits",
        attack_target: str = "decision",
        temperature: float = 1.0,
    ):
        super().__init__()
        if not 0 < temperature < math.inf:
            raise EmpirError("temperature=%r must be positive and finite" % temperature)
        if not members:
            raise EmpirError("an ensemble needs at least one member")
        _check_choice("combine", combine, DECISION_RULES)
        _check_choice("attack_target", attack_target, ATTACK_TARGETS)
        self._members = list(members)
        self.combine = combine
        self.attack_target = attack_target
        self.temperature = temperature
        self.session: Any = None
        self.runtime: Any = None
        self._predictor: Optional[Predictor] = None
        self._has_gradient = True
        full = [i for i, member in enumerate(self.members) if member.is_full_precision]
        if attack_target in ("full_precision", "released") and len(members) > 1 and not full:
            raise EmpirError(
                "attack_target=%s needs a full-precision member; the members are all quantized"
                % attack_target
            )
        #: Index of the member that decides ties: the last full-precision one, else the last.
        self.reference = full[-1] if full else len(self.members) - 1

    @property
    def members(self) -> List[Model]:
        """The networks that decide together."""
        return self._members

    def with_backward(self, name: str) -> "Ensemble":
        """See `Model.with_backward`."""
        other = copy.copy(self)
        other._predictor = None
        other._members = [member.with_backward(name) for member in self.members]
        return other

    def without_gradient(self) -> "Ensemble":
        """The same ensemble for attacks that take no gradient: its runtime computes the members."""
        other = copy.copy(self)
        other._predictor, other._has_gradient = None, self.runtime is None
        return other

    def member_logits(self, x) -> List:
        """See `Model.member_logits`."""
        if self._has_gradient:
            return super().member_logits(x)
        logits = tf.numpy_function(self.runtime.logits, [x], tf.float32)
        logits.set_shape([None, len(self.members), self.runtime.num_classes])
        return tf.unstack(logits, axis=1)

    def predict(self, images, batch_size: int = 100) -> Predictions:
        """What the ensemble makes of images, as arrays.

        Args:
          images: floats [n, height, width, channels] in the range of the dataset.
          batch_size: images of a graph call; changes results by rounding only.

        Raises:
          EmpirError: for images of another shape or integers, or if no session holds the weights.
        """
        session = self.session or tf.get_default_session()
        if session is None:
            raise EmpirError(
                "predict needs the session that holds the weights: load the ensemble with "
                "empir.load_ensemble, or call predict within `with session.as_default()`"
            )
        if self._predictor is None or self._predictor.session is not session:
            self._predictor = Predictor(self, session)
        return self._predictor(images, batch_size)

    def combined(self, logits: Sequence):
        """The logits that the decision rule takes its argmax of; for a vote, the mean logits."""
        if len(logits) == 1:
            return logits[0]
        if self.combine == "mean_probs":
            return mean_probs_logits(self.tempered(logits))
        return mean_logits(logits)

    def decisions(self, logits: Sequence) -> dict:
        """Class under each decision rule, int64 [n], from the members' logits."""
        votes = [tf.argmax(member, axis=1) for member in logits]
        return {
            "mean_logits": tf.argmax(mean_logits(logits), axis=1),
            "mean_probs": tf.argmax(
                tf.add_n([tf.nn.softmax(member) for member in self.tempered(logits)]), axis=1
            ),
            "vote": vote(votes, logits[0].shape[-1].value, self.reference),
        }

    def tempered(self, logits: Sequence) -> Sequence:
        """Members' logits, each float32 [n, classes], as their softmax takes them."""
        return logits if self.temperature == 1 else [self.temperature * one for one in logits]

    def decision(self, x):
        """Predicted class of each image under this ensemble's rule, int64 [n]."""
        return self.decisions(self.member_logits(x))[self.combine]

    def target(self, attack: Optional[str] = None) -> "View":
        """The view of this ensemble that an attack differentiates.

        Args:
          attack: its name; needed for the target "released", which has one for each attack of
            `RELEASED_TARGETS`.
        """
        return View(self, self._resolve(attack))

    def _resolve(self, attack):
        if len(self.members) == 1:
            return "decision"
        if self.attack_target != "released":
            return self.attack_target
        if attack not in RELEASED_TARGETS:
            raise EmpirError(
                "attack_target=released is defined for the attacks %s, not for %r"
                % (", ".join(RELEASED_TARGETS), attack)
            )
        return RELEASED_TARGETS[attack]

    def get_logits(self, x):
        """Logits of the attack target, float32 [n, classes]."""
        return self.target().get_logits(x)

    def fprop(self, x):
        """Logits and probabilities of the attack target, by name."""
        return self.target().fprop(x)

    def describe(self) -> dict:
        """The decision rule and the members, as plain data."""
        return {"combine": self.combine, "members": [m.describe() for m in self.members]}


class View(Model):
    """What an attack on an ensemble differentiates, with the ensemble's own decision as label.

    `get_logits` builds only the members that the view's gradient reaches.
    """

    def __init__(self, ensemble: Ensemble, name: str):
        super().__init__()
        self.ensemble = ensemble
        self.name = name

    @property
    def members(self) -> List[Model]:
        """The ensemble's members."""
        return self.ensemble.members

    def with_backward(self, name: str) -> "View":
        """See `Model.with_backward`."""
        return View(self.ensemble.with_backward(name), self.name)

    def describe(self) -> dict:
        """The ensemble's description with the view's name."""
        return dict(self.ensemble.describe(), view=self.name)

    def get_logits(self, x):
        """The view as logits, float32 [n, classes]."""
        ensemble = self.ensemble
        if self.name == "full_precision":
            return ensemble.members[ensemble.reference].get_logits(x)
        logits = ensemble.member_logits(x)
        if self.name == "majority_probs" and len(logits) > 1:
            return majority_probs(ensemble.tempered(logits), ensemble.reference)
        return ensemble.combined(logits)

    def fprop(self, x):
        """Logits and probabilities: the logits' softmax, but of majority_probs the target itself.

        Faithfulness: so CleverHans' JSMA, which reads probabilities, differentiates what the
        authors' JSMA does (docs/original.md, Attacks).
        """
        logits = self.get_logits(x)
        probable = self.name == "majority_probs" and len(self.ensemble.members) > 1
        return {"logits": logits, "probs": logits if probable else tf.nn.softmax(logits)}

    def decision(self, x):
        """The ensemble's decision, int64 [n]."""
        return self.ensemble.decision(x)


def _check_choice(what, value, choices):
    if value not in choices:
        raise EmpirError("%s=%r: choose from %s" % (what, value, ", ".join(choices)))
