"""Decision rules of an ensemble in PyTorch, and logits of them that attacks can follow.

The rules are those of `empir.models.ensemble`. A vote has no logits, and the mean of probabilities
that are 0 or 1 in float32 has no gradient. AutoAttack asks a network for logits, of which the
largest must be the decision's, so that what it counts as a success is one. `Rule.followed` makes
such logits out of those of the members. Nothing here needs more than PyTorch.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

#: By how much a decision's logit is made larger than the others where it would not be the largest,
#: as a share of those.
LIFT = 1e-3

#: The lead, in units of a member's size, from which on a member is not pushed further.
ENOUGH = 0.5


def vote(logits: torch.Tensor, reference: int) -> torch.Tensor:
    """Class with the most votes, int64 [n].

    Args:
      logits: float32 [n, members, classes].
      reference: index of the member that decides when classes tie, if its class is among them;
        otherwise the first member that voted for one of them does.
    """
    _, members, classes = logits.shape
    order = [reference] + [i for i in range(members) if i != reference]
    ballots = functional.one_hot(logits.argmax(dim=2), classes)[:, order]
    bonus = ballots * torch.arange(members, 0, -1, device=ballots.device)[:, None]
    return ((members + 1) * ballots.sum(1) + bonus.amax(1)).argmax(dim=1)


DECISIONS = {
    "mean_logits": lambda logits, _: logits.mean(1).argmax(dim=1),
    "mean_probs": lambda logits, _: logits.softmax(dim=2).sum(1).argmax(dim=1),
    "vote": vote,
}


def _best_of_others(scores):
    """For each class the largest score of another one; scores: [..., classes]."""
    best, second = scores.topk(2, dim=-1).values.split(1, dim=-1)
    return torch.where(scores >= best, second, best)


def leads(logits: torch.Tensor) -> torch.Tensor:
    """By how much each class leads the best other one; only that of the largest logit is > 0."""
    return logits - _best_of_others(logits)


def vote_leads(member_leads: torch.Tensor, reference: int) -> torch.Tensor:
    """By how much each class wins the vote, float32 [n, classes]; it is > 0 of the winner alone.

    A class wins if more than half of the members vote for it, or if the reference does and there
    is no such class. For up to three members this is the vote. More of them also elect a class
    that has the most votes but no majority, which is left out.

    Args:
      member_leads: each member's `leads`, float32 [n, members, classes].
      reference: see `vote`.
    """
    majority = member_leads.shape[1] // 2 + 1
    common = member_leads.topk(majority, dim=1).values[:, -1]
    alone = torch.minimum(member_leads[:, reference], -_best_of_others(common))
    return torch.maximum(common, alone)


def _followed_vote(logits, sizes, reference):
    """How the vote stands, and how the members stand on average, up to `ENOUGH`.

    The former alone has the gradient of one member, and the latter does not tell which members are
    needed. With their sum AutoAttack succeeds on more images than with either.
    """
    scaled = leads(logits) / sizes[:, None]
    return vote_leads(scaled, reference) + scaled.clamp(max=ENOUGH).mean(1)


def _followed_mean_probs(logits, sizes, _):
    """The mean probability's logarithm, and how the members stand on average.

    The gradient of the former alone is zero where a member's probabilities are 0 and 1 in float32.
    """
    log_probs = logits.log_softmax(dim=2).logsumexp(1)
    return leads(log_probs) / sizes.mean() + (leads(logits) / sizes[:, None]).mean(1)


#: Per rule, the logits that an attack follows, from those of the members, their sizes, and the
#: reference.
FOLLOWED = {
    "mean_logits": lambda logits, *_: logits.mean(1),
    "mean_probs": _followed_mean_probs,
    "vote": _followed_vote,
}


@dataclass(frozen=True)
class Rule:
    """A decision rule of an ensemble.

    Attributes:
      name: key of `DECISIONS`.
      reference: index of the member that decides ties; see `vote`.
      sizes: float32 [members], the mean lead of each member's decision on clean images, by which
        its logits are divided where members are compared.
    """

    name: str
    reference: int
    sizes: torch.Tensor

    @classmethod
    def measured(cls, name: str, reference: int, logits: torch.Tensor) -> "Rule":
        """The rule with the members' sizes on images.

        Args:
          name, reference: see the class.
          logits: the members' of clean images, float32 [n, members, classes].
        """
        sizes = leads(logits).amax(2).mean(0)
        return cls(name, reference, sizes.clamp(min=torch.finfo(sizes.dtype).tiny))

    def decisions(self, logits: torch.Tensor) -> torch.Tensor:
        """The rule's class, int64 [n], of the members' logits [n, members, classes]."""
        return DECISIONS[self.name](logits, self.reference)

    def followed(self, logits: torch.Tensor) -> torch.Tensor:
        """Differentiable logits, float32 [n, classes], whose largest is always the decision's.

        Where it is not the largest by itself it is raised above the others by a constant, which
        leaves the gradient as it is. The logits of a single network are its own.
        """
        if logits.shape[1] == 1:
            return logits[:, 0]
        found = FOLLOWED[self.name](logits, self.sizes, self.reference)
        decided = self.decisions(logits)[:, None]
        largest = found.amax(1, keepdim=True)
        lacking = largest - found.gather(1, decided) + LIFT * (1 + largest.abs())
        is_other = found.argmax(1, keepdim=True) != decided
        return found.scatter_add(1, decided, (lacking * is_other).detach())
