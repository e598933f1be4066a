"""Losses for the vote: their values in NumPy, their gradients, and the vote's decision boundary."""

import numpy as np
import pytest

from empir.attacks import vote_losses
from empir.errors import EmpirError
from empir.models.ensemble import vote
from empir.runtime import tf

COUNT, CLASSES = 4000, 4


def drawn(random, members, levels=None):
    """Members' logits [members, n, classes] and labels [n]; of few levels many logits are equal."""
    logits = random.normal(size=(members, COUNT, CLASSES))
    if levels:
        logits = random.randint(levels, size=logits.shape)
    return logits.astype(np.float32), random.randint(CLASSES, size=COUNT)


def leads(logits):
    """NumPy's lead of each class over the best other one."""
    others = np.stack([np.delete(logits, c, -1).max(axis=-1) for c in range(CLASSES)], axis=-1)
    return logits - others


def evaluated(session, loss, logits, labels, **arguments):
    tensors = [tf.constant(member) for member in logits]
    return session.run(loss(tensors, tf.one_hot(labels, CLASSES), **arguments))


def decided(session, logits, reference):
    return session.run(vote([tf.constant(z.argmax(axis=1)) for z in logits], CLASSES, reference))


@pytest.mark.parametrize("members, fooled, decisive", [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 3)])
def test_margins_are_those_of_the_members_that_must_be_fooled(
    members, fooled, decisive, session, random
):
    logits, labels = drawn(random, members)
    assert vote_losses.to_fool(members) == fooled and vote_losses.majority(members) == decisive
    own = leads(logits)[:, np.arange(COUNT), labels]  # [members, n]
    wrong, right = -np.sort(own, axis=0), np.sort(own, axis=0)[::-1]
    for found, expected in (
        (evaluated(session, vote_losses.kth_margin, logits, labels), wrong[fooled - 1]),
        (evaluated(session, vote_losses.kth_margin, logits, labels, k=members), wrong[-1]),
        (evaluated(session, vote_losses.sum_of_margins, logits, labels), wrong[:fooled].sum(0)),
        (evaluated(session, vote_losses.common_class_margin, logits, labels), right[decisive - 1]),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)  # float32 differences


@pytest.mark.parametrize("levels", [None, 3], ids=["distinct", "ties"])
@pytest.mark.parametrize("members, reference", [(1, 0), (2, 1), (3, 2), (3, 0)])
def test_the_vote_margin_is_positive_where_the_vote_is_wrong_and_negative_where_it_is_right(
    members, reference, levels, session, random
):
    logits, labels = drawn(random, members, levels)
    margin = evaluated(session, vote_losses.vote_margin, logits, labels, reference=reference)
    wrong = decided(session, logits, reference) != labels
    assert wrong[margin > 0].all() and not wrong[margin < 0].any()
    tied = (leads(logits).max(axis=-1) == 0).any(axis=0)  # of a member's two largest logits
    assert tied[margin == 0].all() and tied.any() == bool(levels)
    if members == 3:  # both sides of the boundary where all members differ
        differ = [len(set(ballots)) == 3 for ballots in logits.argmax(axis=-1).T]
        assert {True, False} <= set(wrong[differ])


def test_two_wrong_members_that_disagree_leave_the_decision_to_the_third(session):
    logits = np.array([[[1, 2, 0, 0]], [[1, 0, 2, 0]], [[2, 0, 1, 0]]], np.float32)
    both = [
        evaluated(session, vote_losses.kth_margin, logits, [0]),
        evaluated(session, vote_losses.vote_margin, logits, [0], reference=2),
    ]
    assert decided(session, logits, 2) == [0]
    np.testing.assert_array_equal(both, [[1], [-1]])


def test_of_more_members_a_positive_vote_margin_means_that_the_vote_is_wrong(session, random):
    logits, labels = drawn(random, 5)
    margin = evaluated(session, vote_losses.vote_margin, logits, labels, reference=4)
    wrong = decided(session, logits, 4) != labels
    assert wrong[margin > 0].all() and (margin > 0).sum() > COUNT / 10


@pytest.mark.parametrize("members", [2, 3])
def test_a_positive_common_class_margin_makes_the_vote_that_class(members, session, random):
    logits, targets = drawn(random, members)
    margin = evaluated(session, vote_losses.common_class_margin, logits, targets)
    won = decided(session, logits, members - 1) == targets
    assert won[margin > 0].all() and (margin > 0).any()


LOSSES = {
    "kth": vote_losses.kth_margin,
    "sum": vote_losses.sum_of_margins,
    "common": vote_losses.common_class_margin,
    "vote": lambda logits, labels: vote_losses.vote_margin(logits, labels, reference=2),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradients_are_those_of_finite_differences(loss, session, random):
    logits = 3 * random.normal(size=(3, 20, CLASSES)).astype(np.float32)
    labels = tf.one_hot(random.randint(CLASSES, size=20), CLASSES)
    fed = tf.placeholder(tf.float32, logits.shape)
    value = loss(tf.unstack(fed), labels)
    gradient = session.run(tf.gradients(value, fed)[0], {fed: logits})
    step = 1e-2  # the losses are linear between ties, so that a large step is exact
    for member, c in np.ndindex(3, CLASSES):
        shift = np.zeros_like(logits)
        shift[member, :, c] = step
        up, down = (session.run(value, {fed: logits + sign * shift}) for sign in (1, -1))
        slope = (up - down) / (2 * step)
        # float32 logits of size 10 have a rounding error of 1e-6, divided by the step; an image
        # whose tie lies within the step has a slope of another size, and is one of few.
        assert (np.abs(slope - gradient[member, :, c]) < 1e-3).mean() >= 0.9


@pytest.mark.parametrize("k", [0, 4, -1])
def test_a_number_of_members_that_cannot_be_fooled_is_an_error(k, session, random):
    logits, labels = drawn(random, 3)
    with pytest.raises(EmpirError, match=f"k={k} must be 1..3"):
        evaluated(session, vote_losses.kth_margin, logits, labels, k=k)
