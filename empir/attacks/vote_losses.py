"""Losses that follow the decision of a majority vote, as functions of the members' logits.

Under the vote an ensemble's decision changes when enough members change theirs. The mean of the
logits does not tell how many have, so a loss of it can rise while the vote stays as it is. The
losses here are positive where members are wrong, and an attack maximises them.

Each takes the members' logits, a float32 [n, classes] tensor per member, and one-hot classes,
float32 [n, classes], and gives float32 [n]. With the logits z_i of member i, the lead of class c is

    lead_i(c) = z_i(c) - max_{j != c} z_i(j),

which is positive exactly where member i decides for c and no other class ties with it. The margin
of member i is that of wrong classes over the true class y, max_{j != y} z_i(j) - z_i(y), or
-lead_i(y).
"""

from typing import Optional, Sequence

from empir.attacks.losses import margin
from empir.errors import EmpirError
from empir.runtime import tf

_FAR = 1e9  # what is taken from a logit so that its class is never the best


def to_fool(members: int) -> int:
    """The least number of members that must be wrong for a vote of `members` to be wrong."""
    return (members + 1) // 2


def majority(members: int) -> int:
    """The least number of members that decide a vote of `members`, whatever the others say."""
    return members // 2 + 1


def kth_margin(logits: Sequence, labels, k: Optional[int] = None):
    """The k-th largest of the members' margins: that of the member that must be fooled next.

    It is positive exactly where at least k members are wrong. Its gradient is one member's, the one
    that stands between the image and the k-th wrong decision: members that are wrong already are
    not pushed further.

    For three members and k = 2 it is negative only where the vote is right. Where it is positive
    the vote is wrong, unless the two wrong members disagree and the third, which is right, decides
    where all three differ; `vote_margin` tells these cases apart.

    Args:
      logits, labels: see the module; labels are the true classes.
      k: number of members that must be fooled; default: `to_fool`.

    Raises:
      EmpirError: for k outside 1..members.
    """
    return _largest(_margins(logits, labels), k, to_fool)[..., -1]


def sum_of_margins(logits: Sequence, labels, k: Optional[int] = None):
    """The sum of the k largest of the members' margins.

    It is positive where at least k members are wrong, and also where fewer are, by enough to
    outweigh the others. It pushes k members at once, where `kth_margin` follows one member and may
    undo what it reached on another.

    Args, raises: as of `kth_margin`.
    """
    return tf.reduce_sum(_largest(_margins(logits, labels), k, to_fool), axis=-1)


def common_class_margin(logits: Sequence, targets, k: Optional[int] = None):
    """The k-th largest of the members' leads of one class that all of them are led to.

    It is positive exactly where at least k members decide for that class. If k is the majority, as
    by default, so does the vote, however ties are decided.

    Args:
      logits: see the module.
      targets: the class that is to win, one-hot.
      k: number of members that must decide for it; default: `majority`.

    Raises:
      EmpirError: for k outside 1..members.
    """
    return _largest(-_margins(logits, targets), k, majority)[..., -1]


def vote_margin(logits: Sequence, labels, reference: int):
    """By how much the vote is wrong; 0 on its decision boundary.

    A vote of three is wrong in one of two ways: two members or more decide for a common wrong
    class, or the reference, which decides where all three differ, is wrong, and another one is too.
    The result is the larger one of

        max_{c != y} (the second largest of lead_i(c) over all members i),
        min(margin of the reference, the largest margin of the others).

    It is positive only where the vote is wrong and negative only where it is right; it is 0 only
    if the two largest logits of a member are equal. With one or two members the reference decides
    alone, and the second line is its margin. With more than three members only the first line
    counts, for a majority: where it is positive the vote is wrong, but a smaller group can win too.

    Args:
      logits, labels: see the module; labels are the true classes.
      reference: index of the member that decides ties (`Ensemble.reference`).
    """
    leads = tf.stack([_leads(member) for member in logits], axis=-1)
    common = tf.reduce_max(_largest(leads, None, majority)[..., -1] - _FAR * labels, axis=-1)
    if len(logits) > 3:
        return common
    others = [margin(z, labels) for i, z in enumerate(logits) if i != reference]
    alone = margin(logits[reference], labels)
    return tf.maximum(common, tf.minimum(alone, tf.maximum(*others)) if others[1:] else alone)


def _margins(logits, labels):
    """Each member's margin, float32 [n, members]."""
    return tf.stack([margin(member, labels) for member in logits], axis=-1)


def _leads(logits):
    """Each class's lead over the best other one, float32 [n, classes]."""
    best, second = tf.split(tf.nn.top_k(logits, 2)[0], 2, axis=-1)
    others = tf.where(logits >= best, second + tf.zeros_like(logits), best + tf.zeros_like(logits))
    return logits - others


def _largest(values, k, default):
    """The k largest along the last axis, the members', in decreasing order."""
    members = values.shape[-1].value
    if k is not None and not 1 <= k <= members:
        raise EmpirError(f"k={k!r} must be 1..{members}, the number of members")
    return tf.nn.top_k(values, k or default(members))[0]
