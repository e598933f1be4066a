"""What an attack differentiates of an ensemble, and by which loss.

An attack has succeeded if the ensemble, under its own decision rule, gives another class than the
true one. Which loss leads there fastest depends on the ensemble, so a `ViewSpec` says whose outputs
the loss is taken of, which loss it is, and which backward pass the quantizers have.
"""

from dataclasses import dataclass, replace

from empir.attacks import vote_losses
from empir.attacks.base import Assessment, ModelWithLoss
from empir.attacks.losses import LOSSES, gradient_or_zero, loss
from empir.attacks.pgd import unit
from empir.errors import EmpirError
from empir.models.ensemble import Ensemble, mean_logits, mean_probs_logits
from empir.runtime import tf

#: Whose outputs a loss is taken of. "memberK" is the K-th member alone, counted from 1, "outsideK"
#: the K-th of the networks outside the ensemble.
OUTPUTS = ("mean_logits", "mean_probs", "balanced", "vote")
#: Losses of the outputs "vote", see `empir.attacks.vote_losses`.
VOTE_LOSSES = {
    "margin": lambda logits, labels, reference: vote_losses.vote_margin(logits, labels, reference),
    "next": lambda logits, labels, _: vote_losses.kth_margin(logits, labels),
    "sum": lambda logits, labels, _: vote_losses.sum_of_margins(logits, labels),
}
#: EOT samples of a network that draws at random: passes that an attack averages while it searches,
#: and passes that judge its result. The class that most passes give is the network's decision.
#: Judging takes more passes, because an image that fools only a few of them is easily found by
#: chance.
EOT_SAMPLES, JUDGING_SAMPLES = 8, 32


@dataclass(frozen=True)
class ViewSpec:
    """A view of an ensemble and the loss that an attack maximises on it.

    Attributes:
      outputs: "mean_logits" or "mean_probs": one loss of the members' mean. "balanced": the
        members' own losses; their gradients are scaled to one length before they are added, so that
        none dominates (TREND, arXiv 2008.01524). "memberK": the K-th member's loss, a transfer from
        that member. "outsideK": the loss of a network outside the ensemble. "vote": one loss of
        all members, by how the majority vote is decided.
      loss: one of `losses.LOSSES`. Of "vote": "margin", positive only where the vote is wrong;
        "next", the margin of the member that must be fooled next; "sum", the sum of the margins of
        as many members as must be fooled. With a class to lead to, all three are the lead of that
        class in enough members for a majority.
      scaled: first divide the logits by the distance of the largest from the third largest, without
        a gradient, so that a cross-entropy does not vanish where a network is sure of itself (Gupta
        and Ajanthan 2020, arXiv 2003.13511, scale by a constant).
      backward: backward pass of the quantizers (BPDA), see `empir.nn.quantizers`.
      samples: number of passes that gradients are averaged over, for networks that draw at random
        (EOT, Athalye et al. 2018, arXiv 1802.00420); the decision is the most frequent one.
    """

    outputs: str = "mean_logits"
    loss: str = "margin"
    scaled: bool = False
    backward: str = "clipped"
    samples: int = 1

    def __str__(self):
        words = [self.outputs, f"scaled {self.loss}" if self.scaled else self.loss]
        words += [self.backward] if self.backward != "clipped" else []
        words += [f"{self.samples} draws"] if self.samples != 1 else []
        return ", ".join(words)

    def check(self, members: int, outside: int = 0):
        """Raise `EmpirError` for a value out of range, given the numbers of networks."""
        names = OUTPUTS + tuple(f"member{i + 1}" for i in range(members))
        names += tuple(f"outside{i + 1}" for i in range(outside))
        losses = tuple(VOTE_LOSSES) if self.outputs == "vote" else LOSSES
        choices = (("outputs", self.outputs, names), ("loss", self.loss, losses))
        for what, value, known in choices:
            if value not in known:
                raise EmpirError(f"{what}={value!r}: choose from {', '.join(known)}")
        if self.samples < 1:
            raise EmpirError(f"samples={self.samples!r} must be at least 1")


class AttackedEnsemble(ModelWithLoss):
    """An ensemble as an attack sees it: the loss of a view, and success by the decision rule.

    Args:
      ensemble: decides.
      view: what the loss is; an ensemble that draws at random is sampled at least `EOT_SAMPLES`
        times.
      outside: networks that the view's outputs may be of, beside the members.

    Raises:
      EmpirError: for a view that the ensemble does not have.
    """

    def __init__(self, ensemble: Ensemble, view: ViewSpec = ViewSpec(), outside=()):
        super().__init__()
        view.check(len(ensemble.members), len(outside))
        least = EOT_SAMPLES if ensemble.draws else 1
        self.view = replace(view, samples=max(view.samples, least))
        self.layer_names = ["logits", "probs"]
        self._ensemble = ensemble.with_backward(view.backward)
        self._outside = [network.with_backward(view.backward) for network in outside]

    def assess(self, image, labels, toward=None) -> Assessment:
        """See `ModelWithLoss.assess`."""
        passes = [self._assess_once(image, labels, toward) for _ in range(self.view.samples)]
        losses, gradients, decisions = zip(*passes)
        value, gradient = (tf.add_n(found) / len(passes) for found in (losses, gradients))
        return Assessment(value, gradient, _are_wrong(decisions, labels))

    def score(self, image, labels):
        """See `ModelWithLoss.score`."""
        passes = [self._losses(image, labels) for _ in range(self.view.samples)]
        losses, decisions = zip(*((tf.add_n(each) / len(each), d) for each, d in passes))
        return tf.add_n(losses) / len(losses), _are_wrong(decisions, labels)

    def decision(self, x):
        """The ensemble's decision, int64 [n]."""
        return self._ensemble.decision(x)

    def fprop(self, x):
        """Logits of the decision rule, and their softmax."""
        return self._ensemble.fprop(x)

    def _assess_once(self, image, labels, toward):
        losses, decision = self._losses(image, labels, toward)
        gradients = [gradient_or_zero(value, image) for value in losses]
        if len(losses) > 1:
            gradients = [unit(gradient) for gradient in gradients]
        return tf.add_n(losses) / len(losses), tf.add_n(gradients), decision

    def _losses(self, image, labels, toward=None):
        """Losses, float32 [n] each, and the decision, int64 [n], of one pass."""
        logits = self._ensemble.member_logits(image)
        if self.view.outputs == "vote":
            losses = [self._vote_loss(logits, labels, toward)]
        else:
            losses = [self._loss(one, labels, toward) for one in self._outputs(logits, image)]
        return losses, self._ensemble.decisions(logits)[self._ensemble.combine]

    def _outputs(self, logits, image):
        outputs = self.view.outputs
        if outputs == "balanced":
            return logits
        if outputs.startswith("outside"):
            return [self._outside[int(outputs[len("outside") :]) - 1].get_logits(image)]
        if outputs.startswith("member"):
            return [logits[int(outputs[len("member") :]) - 1]]
        if outputs == "mean_probs":
            return [mean_probs_logits(self._ensemble.tempered(logits))]
        return [mean_logits(logits)]

    def _vote_loss(self, logits, labels, toward):
        if toward is not None:
            return vote_losses.common_class_margin(logits, toward)
        return VOTE_LOSSES[self.view.loss](logits, labels, self._ensemble.reference)

    def _loss(self, logits, labels, toward):
        if self.view.scaled:
            largest = tf.nn.top_k(logits, 3)[0]
            logits = logits / tf.stop_gradient(largest[:, :1] - largest[:, 2:] + 1e-12)
        return loss(self.view.loss, logits, labels, toward)


def most_frequent(passes, classes: int):
    """Class that most passes give, int64 [...], of int64 [passes, ...]; of several the lowest."""
    return tf.argmax(tf.reduce_sum(tf.one_hot(passes, classes), axis=0), axis=-1)


def _are_wrong(decisions, labels):
    """Whether the most frequent of the passes' decisions is another class than the label."""
    decision = decisions[0]
    if len(decisions) > 1:
        decision = most_frequent(tf.stack(decisions), labels.shape[-1].value)
    return tf.not_equal(decision, tf.argmax(labels, axis=1))
