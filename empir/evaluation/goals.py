"""What adaptive attacks climb on an ensemble, and when they have succeeded.

Success is always the same: the ensemble, under its own decision rule, gives another class than the
true one. Which loss leads there fastest depends on the ensemble, so a `Goal` says what is climbed:
whose outputs, by which loss, with which gradient of the quantizers.
"""

from typing import NamedTuple

from empir.attacks.apgd import LOSSES, Ascent, Climb, margin, ratio_margin
from empir.attacks.base import norm
from empir.attacks.square import SquareAttack
from empir.errors import EmpirError
from empir.models.ensemble import Ensemble, mean_logits, mean_probs_logits
from empir.runtime import tf

#: Whose outputs a loss is taken of. "memberK" is the K-th member alone, counted from 1, "outsideK"
#: the K-th of the networks outside the ensemble.
TARGETS = ("mean_logits", "mean_probs", "balanced")
#: Forward passes of a network that draws at random: while an attack searches, and when its result
#: is judged. The class that most passes give is the network's decision. Judging takes more passes
#: because an image that fools only a few of them is easily found by chance.
DRAWS, JUDGING_DRAWS = 8, 32


class Goal(NamedTuple):
    """What an attack climbs.

    Attributes:
      target: mean_logits or mean_probs: the loss of what the members' mean gives. balanced: the
        members' own losses, whose gradients are scaled to one length before they are added, so that
        none dominates (TREND, arXiv 2008.01524). memberK: the K-th member's
        loss, a transfer from it. outsideK: that of a network that is none of the members. Of a
        single network, all but the last are its own.
      loss: ce, margin or dlr (`empir.attacks.apgd`).
      scaled: divide logits by the distance of the largest from the third largest first, without a
        gradient, so that a cross-entropy does not vanish where a network is sure of itself (Gupta
        and Ajanthan 2020, arXiv 2003.13511, scale by a constant).
      backward: gradient of the quantizers, see `quantizers.DoReFaActivations`.
      draws: how many passes gradients are averaged over, for networks that draw at random (EOT,
        Athalye et al. 2018, arXiv 1802.00420); the decision is that of most passes.
    """

    target: str = "mean_logits"
    loss: str = "margin"
    scaled: bool = False
    backward: str = "clipped"
    draws: int = 1

    def __str__(self):
        words = [self.target, "scaled " + self.loss if self.scaled else self.loss]
        words += [self.backward] if self.backward != "clipped" else []
        words += ["%d draws" % self.draws] if self.draws != 1 else []
        return ", ".join(words)

    def check(self, members: int, outside: int = 0):
        """Raise `EmpirError` for a value out of range, given how many networks there are."""
        names = TARGETS + tuple("member%d" % (i + 1) for i in range(members))
        names += tuple("outside%d" % (i + 1) for i in range(outside))
        for what, value, choices in (("target", self.target, names), ("loss", self.loss, LOSSES)):
            if value not in choices:
                raise EmpirError("%s=%r: choose from %s" % (what, value, ", ".join(choices)))
        if self.draws < 1:
            raise EmpirError("draws=%r must be at least 1" % self.draws)

    def climb(self, ensemble: Ensemble, image, labels, towards=None, outside=()) -> Climb:
        """Loss, gradient and success at images.

        Args:
          ensemble: decides.
          image: float32 [n, ...].
          labels: true classes, one-hot float32 [n, classes].
          towards: classes to lead to, likewise; None = any wrong one.
          outside: networks that the target may be, beside the members.
        """
        ensemble = ensemble.with_backward(self.backward)
        outside = [network.with_backward(self.backward) for network in outside]
        passes = [self._once(ensemble, image, labels, towards, outside) for _ in range(self.draws)]
        losses, gradients, decisions = zip(*passes)
        loss, gradient = (tf.add_n(found) / self.draws for found in (losses, gradients))
        return Climb(loss, gradient, _are_wrong(decisions, labels))

    def _once(self, ensemble, image, labels, towards, outside):
        logits = ensemble.member_logits(image)
        followed = self._outputs(ensemble, logits, image, outside)
        losses = [self._loss(outputs, labels, towards) for outputs in followed]
        gradients = [gradient_or_zero(loss, image) for loss in losses]
        if len(losses) > 1:
            gradients = [gradient / norm(gradient, 2) for gradient in gradients]
        decision = ensemble.decisions(logits)[ensemble.combine]
        return tf.add_n(losses) / len(losses), tf.add_n(gradients), decision

    def _outputs(self, ensemble, logits, image, outside):
        if self.target == "balanced":
            return logits
        if self.target.startswith("outside"):
            return [outside[int(self.target[len("outside") :]) - 1].get_logits(image)]
        if self.target.startswith("member"):
            return [logits[int(self.target[len("member") :]) - 1]]
        if self.target == "mean_probs":
            return [mean_probs_logits(ensemble.tempered(logits))]
        return [mean_logits(logits)]

    def _loss(self, logits, labels, towards):
        if self.scaled:
            largest = tf.nn.top_k(logits, 3)[0]
            logits = logits / tf.stop_gradient(largest[:, :1] - largest[:, 2:] + 1e-12)
        if towards is not None:
            # The lead over the true class; a network's other classes do not matter.
            lead = tf.reduce_sum((towards - labels) * logits, axis=1)
            if self.loss == "margin":
                return lead
            if self.loss == "ce":
                return -_cross_entropy(towards, logits)
            largest = tf.nn.top_k(logits, 4)[0]
            spread = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
            return lead / (spread + 1e-12)
        if self.loss == "ce":
            return _cross_entropy(labels, logits)
        return (margin if self.loss == "margin" else ratio_margin)(logits, labels)


def gradient_or_zero(loss, image):
    """Gradient of `loss` with respect to `image`, of its shape; zero if nothing connects them."""
    (gradient,) = tf.gradients(loss, image)
    return tf.zeros_like(image) if gradient is None else gradient


def most_frequent(passes, classes: int):
    """Class that most passes give, int64 [...], of int64 [passes, ...]; of several the lowest."""
    return tf.argmax(tf.reduce_sum(tf.one_hot(passes, classes), axis=0), axis=-1)


def _are_wrong(decisions, labels):
    """Whether most passes' decisions, int64 [n] each, are another class than the label."""
    decision = decisions[0]
    if len(decisions) > 1:
        decision = most_frequent(tf.stack(decisions), labels.shape[-1].value)
    return tf.not_equal(decision, tf.argmax(labels, axis=1))


def _cross_entropy(labels, logits):
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)


class GoalPGD(Ascent):
    """Auto-PGD on an ensemble, climbing a `Goal`; y are true labels.

    Args:
      ensemble: what decides.
      goal: what is climbed.
      towards: one-hot float32 [n, classes] tensor of classes to lead to; None = any wrong one.
      outside: networks outside the ensemble that the goal's target may be.
      sess: see `Attack`.
    """

    def __init__(self, ensemble: Ensemble, goal: Goal, towards=None, outside=(), sess=None):
        super().__init__(ensemble.target("pgd"), sess=sess)
        goal.check(len(ensemble.members), len(outside))
        self.goal = goal
        self._towards = towards
        self._outside = outside

    def beside_labels(self):
        """See `Ascent.beside_labels`: the classes to lead to, if there are."""
        return () if self._towards is None else (self._towards,)

    def climb(self, image, labels, towards=None, targeted=False):
        """See `Ascent.climb`."""
        return self.goal.climb(self.model.ensemble, image, labels, towards, self._outside)


class GoalSquare(SquareAttack):
    """`SquareAttack` on an ensemble: scores are its mean logits' lead, success its decision."""

    def __init__(self, ensemble: Ensemble, sess=None):
        super().__init__(ensemble.target("pgd"), sess=sess)

    def score(self, image, labels):
        """See `SquareAttack.score`."""
        ensemble, leads, decisions = self.model.ensemble, [], []
        for _ in range(DRAWS if ensemble.draws else 1):
            logits = ensemble.member_logits(image)
            leads.append(margin(mean_logits(logits), labels))
            decisions.append(ensemble.decisions(logits)[ensemble.combine])
        return tf.add_n(leads) / len(leads), _are_wrong(decisions, labels)
