"""Ensembles: the vote, the decision rules, what every attack target is and what its gradient meets.

Most members here are linear stubs, so that expected values and gradients are NumPy one-liners.
"""

import itertools
from collections import Counter

import numpy as np
import pytest

from empir import attacks
from empir.errors import EmpirError
from empir.models import ensemble as subject
from empir.models.ensemble import DECISION_RULES, Ensemble, vote
from empir.models.member import Member
from empir.models.model import Model
from empir.nn import mnistconv
from empir.nn.layers import QuantDense, Softmax
from empir.nn.precision import FULL, Precision
from empir.nn.quantizers import weight_quantizer
from empir.runtime import keras, tf

W2A4 = Precision(2, 4)
FEATURES, CLASSES = 6, 4

PLAIN_TARGETS = ("decision", "full_precision", "majority_probs")

#: What the authors' code differentiates in each attack (docs/original.md, Defects 11 to 14, and
#: Attacks).
RELEASED = {
    "cw": "full_precision",
    "bim": "full_precision",
    "fgsm": "majority_probs",
    "jsma": "majority_probs",
    "pgd": "majority_probs",
}


class Linear(Model):
    """Member with logits x @ w; remembers every logits tensor that it has built."""

    def __init__(self, w, full=False):
        super().__init__()
        self.w = tf.Variable(np.asarray(w, np.float32))
        self._full = full
        self.built = []

    @property
    def is_full_precision(self):
        return self._full

    def get_logits(self, x):
        self.built.append(tf.matmul(x, self.w))
        return self.built[-1]

    def get_params(self):
        return [self.w]


def linear_members(random, full):
    """A linear member per entry of `full`, which says whether it is at full precision."""
    return [Linear(random.normal(size=(FEATURES, CLASSES)), f) for f in full]


def constant_members(logits, full=(False, False, True)):
    """Members whose logits for the input [[1]] are the given rows."""
    return [Linear([row], f) for row, f in zip(logits, full)]


ONE = np.ones((1, 1), np.float32)


def start(session):
    session.run(tf.global_variables_initializer())


def softmax(logits):
    """In float64, over the last axis."""
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def slow_vote(ballots, reference):
    """One image's vote by the rule as it is written, from one class per member."""
    votes = Counter(ballots)
    tied = [c for c in votes if votes[c] == max(votes.values())]
    if ballots[reference] in tied:
        return ballots[reference]
    return next(ballot for ballot in ballots if ballot in tied)


def run_vote(session, ballots, classes, reference):
    """`vote` on an array of decisions, [images, members]."""
    decisions = [tf.constant(column, tf.int64) for column in np.asarray(ballots).T]
    decided = vote(decisions, classes, reference)
    assert decided.dtype == tf.int64
    return session.run(decided)


# The vote


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("members", range(1, 7))
def test_the_vote_is_that_of_the_slow_rule(members, classes, session, random):
    ballots = random.randint(0, classes, (1000, members))
    for reference in range(members):
        expected = [slow_vote(row, reference) for row in ballots.tolist()]
        np.testing.assert_array_equal(run_vote(session, ballots, classes, reference), expected)


@pytest.mark.parametrize("reference", range(3))
def test_three_members_decide_by_two_votes_or_by_the_reference(reference, session):
    ballots = list(itertools.product(range(4), repeat=3))
    expected = [next((c for c in range(4) if row.count(c) >= 2), row[reference]) for row in ballots]
    np.testing.assert_array_equal(run_vote(session, ballots, 4, reference), expected)


@pytest.mark.parametrize(
    "ballots, reference, expected",
    [
        ((3,), 0, 3),
        ((3, 1), 0, 3),
        ((3, 1), 1, 1),
        ((3, 3, 1, 1), 3, 1),  # a tie: the reference's class is in it
        ((3, 3, 1, 1, 0), 4, 3),  # a tie without the reference: the first member's class
        ((0, 3, 1, 1, 3), 0, 3),  # the first member that voted for 3 or 1 voted for 3
        ((1, 0, 0, 3, 3, 2), 0, 0),
        ((2, 2, 2, 0, 0, 1), 5, 2),  # most votes, whatever the reference says
    ],
)
def test_ties_go_to_the_reference_or_to_the_first_member_in_them(
    ballots, reference, expected, session
):
    assert slow_vote(ballots, reference) == expected
    assert run_vote(session, [ballots], 4, reference) == [expected]


# Combinations of logits


@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_mean_logits_and_mean_probs_are_numpys(members, session, random):
    logits = random.normal(0, 3, (members, 20, CLASSES)).astype(np.float32)
    tensors = [tf.constant(member) for member in logits]
    combined = [subject.mean_logits(tensors), subject.mean_probs_logits(tensors)]
    mean, log_probs = session.run(combined)
    # A handful of float32 operations on values of about 10.
    np.testing.assert_allclose(mean, logits.mean(axis=0, dtype=np.float64), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(softmax(log_probs), softmax(logits).mean(axis=0), rtol=2e-5)
    np.testing.assert_allclose(log_probs, np.log(softmax(logits).mean(axis=0)), atol=2e-5)


@pytest.mark.parametrize("size", [1e3, 1e5, 1e30])
def test_mean_probs_logits_are_stable_for_huge_logits(size, session):
    members = [[[size, 0, -size]], [[0, size, -size]], [[size, -size, 0]]]
    tensors = [tf.constant(member, tf.float32) for member in members]
    logits = subject.mean_probs_logits(tensors)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[2], logits=logits)
    values, *gradients = session.run([logits] + tf.gradients(loss, tensors))
    # log(2/3) and log(1/3) in float32; the third class is out of reach but finite.
    np.testing.assert_allclose(values[0, :2], np.log([2 / 3, 1 / 3]), rtol=1e-6)
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all() and np.abs(gradients).max() > 0.1


@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_majority_probs_are_the_mean_softmax_of_those_that_agree(members, session, random):
    logits = random.normal(0, 2, (members, 200, CLASSES)).astype(np.float32)
    ballots = logits.argmax(axis=2)
    for reference in range(members):
        expected = []
        for image in range(200):
            decided = slow_vote(ballots[:, image].tolist(), reference)
            agreeing = logits[ballots[:, image] == decided, image]
            expected.append(softmax(agreeing).mean(axis=0))
        probs = session.run(subject.majority_probs([tf.constant(m) for m in logits], reference))
        # float32 softmax.
        np.testing.assert_allclose(probs, expected, rtol=1e-5, atol=1e-7)


# Decision rules

#: Logits of two low-precision members and a full-precision one, the class under each rule.
RULES = [
    # Two lukewarm votes for 0; the third member is sure of 2, and least against 1 otherwise.
    (([2, 1.9, -5, 1.9], [2, 1.9, -5, 1.9], [-10, -5, 5, -10]), dict(vote=0, logits=1, probs=2)),
    # All differ: the full-precision member's vote, though its logits are the smallest.
    (([9, 0, 0, 0], [0, 5, 0, 0], [0, 0, 1, 0]), dict(vote=2, logits=0, probs=0)),
    # One outvoted member that is surer than the two others together.
    (([1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 99]), dict(vote=0, logits=3, probs=3)),
]


@pytest.mark.parametrize("rule", DECISION_RULES)
@pytest.mark.parametrize("logits, expected", RULES)
def test_the_decision_follows_the_rule(logits, expected, rule, session):
    ensemble = Ensemble(constant_members(logits), combine=rule)
    start(session)
    x = tf.constant(ONE)
    on_target = ensemble.target("fgsm").decision(x)
    every_rule = ensemble.decisions(ensemble.member_logits(x))
    decision, on_target, every_rule = session.run([ensemble.decision(x), on_target, every_rule])
    expected = {rule if rule == "vote" else "mean_" + rule: c for rule, c in expected.items()}
    assert decision.dtype == np.int64
    assert decision == on_target == [expected[rule]]
    assert {name: int(value) for name, value in every_rule.items()} == expected


@pytest.mark.parametrize(
    "full, reference",
    [
        ((False, False, True), 2),
        ((True, False, False), 0),
        ((True, True, False), 1),
        ((False, False), 1),
        ((False,), 0),
        ((True, True, True), 2),
    ],
)
def test_the_last_full_precision_member_decides_ties_else_the_last(full, reference, session):
    ensemble = Ensemble(constant_members(np.eye(CLASSES), full), combine="vote")
    start(session)
    assert ensemble.reference == reference
    # All members differ, member i voting for class i.
    assert session.run(ensemble.decision(tf.constant(ONE))) == [reference]


# Attack targets


def expected_target(name, combine, logits, reference):
    """The target `name` in NumPy, from the members' logits [members, images, classes]."""
    if name == "full_precision":
        return logits[reference]
    if name == "decision":
        probs = combine == "mean_probs"
        return np.log(softmax(logits).mean(axis=0)) if probs else logits.mean(axis=0)
    agree = agreeing(logits, reference)[..., None]
    return (softmax(logits) * agree).sum(axis=0) / agree.sum(axis=0)


def agreeing(logits, reference):
    """Which member agrees with the vote on which image: bool [members, images]."""
    ballots = logits.argmax(axis=2)
    decided = [slow_vote(column, reference) for column in ballots.T.tolist()]
    return ballots == decided


def with_gradients(ensemble, target, x, upstream):
    """The target's logits and their gradients at every member's, None for members not built."""
    for member in ensemble.members:
        del member.built[:]
    logits = target.get_logits(x)
    built = [member.built[0] if member.built else None for member in ensemble.members]
    weighted = tf.reduce_sum(logits * upstream)
    return logits, [None if b is None else tf.gradients(weighted, b)[0] for b in built]


#: attack_target, attack -> the view that is differentiated.
VIEWS = [(name, "pgd", name) for name in PLAIN_TARGETS] + [
    ("released", attack, view) for attack, view in RELEASED.items()
]


@pytest.mark.parametrize("combine", DECISION_RULES)
@pytest.mark.parametrize("attack_target, attack, view", VIEWS)
def test_a_targets_logits_and_the_members_that_its_gradient_reaches(
    attack_target, attack, view, combine, session, random
):
    full = (False, True, False, False)
    ensemble = Ensemble(linear_members(random, full), combine, attack_target)
    x = tf.constant(random.normal(size=(30, FEATURES)), tf.float32)
    upstream = random.normal(size=(30, CLASSES)).astype(np.float32)
    start(session)
    each = np.stack(session.run(ensemble.member_logits(x)))
    logits, gradients = with_gradients(ensemble, ensemble.target(attack), x, upstream)

    expected = expected_target(view, combine, each, reference=1)
    # float32 means, softmax and logarithm.
    np.testing.assert_allclose(session.run(logits), expected, rtol=1e-4, atol=1e-5)
    on_weights = tf.gradients(logits * upstream, ensemble.get_params())
    assert [g is None for g in on_weights] == [g is None for g in gradients]
    if view == "full_precision":
        assert [g is not None for g in gradients] == list(full)
        assert [bool(member.built) for member in ensemble.members] == list(full)
        np.testing.assert_array_equal(session.run(gradients[1]), upstream)
        return
    # Exactly the images whose gradient is masked have a gradient of exactly 0.
    reached = np.stack([np.abs(g).max(axis=1) > 0 for g in session.run(gradients)])
    if view == "majority_probs":
        agree = agreeing(each, 1)
        assert 0 < agree.sum(axis=1).min() and not agree.all(axis=1).any()
        np.testing.assert_array_equal(reached, agree)
    else:
        assert reached.all()


@pytest.mark.parametrize("attack_target", PLAIN_TARGETS)
def test_an_ensembles_own_logits_and_probs_are_its_targets(attack_target, session, random):
    ensemble = Ensemble(linear_members(random, (False, True)), attack_target=attack_target)
    x = tf.constant(random.normal(size=(9, FEATURES)), tf.float32)
    start(session)
    target = ensemble.target()
    tensors = [ensemble.get_logits(x), target.get_logits(x), ensemble.get_probs(x), target(x)]
    logits, of_target, probs, probs_of_target = session.run(tensors)
    np.testing.assert_array_equal(logits, of_target)
    np.testing.assert_array_equal(probs, probs_of_target)
    # The mean softmax is used as logits, and is the probabilities too.
    expected = logits if attack_target == "majority_probs" else softmax(logits)
    np.testing.assert_allclose(probs, expected, rtol=1e-5)  # float32 softmax
    assert ensemble.get_params() == target.get_params() == [m.w for m in ensemble.members]


def test_jsma_follows_the_members_that_agree_with_the_vote(session):
    """Two pixels matter to the agreeing members, two to the other, which is at the target."""
    low = Linear([[-1, 1], [-1, 1], [0, 0], [0, 0], [1, -1]])
    full = Linear([[0, 0], [0, 0], [-9, 9], [-9, 9], [-9, 9]], full=True)
    ensemble = Ensemble([low, low, full], "vote", "released")
    start(session)
    jsma = attacks.create("jsma", ensemble.target("jsma"), session)
    images = np.array([[0.1, 0.1, 0.1, 0.1, 1.0]], np.float32)
    parameters = dict(theta=1.0, gamma=0.4, clip_min=0.0, clip_max=1.0)  # two pixels of five
    found = jsma.generate_np(images, y_target=np.array([[0, 1]], np.float32), **parameters)
    np.testing.assert_array_equal(found != images, [[True, True, False, False, False]])


# One member


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("attack_target", PLAIN_TARGETS + ("released",))
def test_of_one_member_every_rule_and_target_is_its_own(attack_target, full, session, random):
    (member,) = linear_members(random, [full])
    x = tf.constant(random.normal(size=(20, FEATURES)), tf.float32)
    start(session)
    own = session.run(member.get_logits(x))
    for combine in DECISION_RULES:
        ensemble = Ensemble([member], combine, attack_target)
        views = [ensemble] + [ensemble.target(attack) for attack in (None, "cw", "fgsm", "spsa")]
        for logits in session.run([view.get_logits(x) for view in views]):
            np.testing.assert_array_equal(logits, own)
        np.testing.assert_array_equal(session.run(ensemble.decision(x)), own.argmax(axis=1))


# Errors


@pytest.mark.parametrize(
    "full, arguments, why",
    [
        ((), {}, "at least one member"),
        ((True,), {"combine": "mean"}, "combine='mean'.*mean_logits, mean_probs, vote"),
        ((True,), {"attack_target": "logits"}, "attack_target='logits'.*decision, .*released"),
        ((False, False), {"attack_target": "full_precision"}, "needs a full-precision member"),
        ((False, False), {"attack_target": "released"}, "needs a full-precision member"),
    ],
)
def test_ensembles_that_cannot_be_are_an_error(full, arguments, why, session, random):
    with pytest.raises(EmpirError, match=why):
        Ensemble(linear_members(random, full), **arguments)


@pytest.mark.parametrize("attack", [None, "deepfool", "CW"])
def test_released_is_an_error_for_attacks_that_the_authors_did_not_run(attack, session, random):
    ensemble = Ensemble(linear_members(random, (False, True)), attack_target="released")
    with pytest.raises(EmpirError, match="bim, cw, fgsm, jsma, pgd, not for %r" % attack):
        ensemble.target(attack)


# Members


def small_member(precisions):
    """A real member with one hidden layer, for inputs [n, 6]."""
    model = keras.Sequential(
        [
            QuantDense(
                5,
                activation="relu",
                kernel_quantizer=weight_quantizer(precisions[0].weight_bits),
                input_shape=(FEATURES,),
                name="hidden",
            ),
            QuantDense(CLASSES, use_bias=False, name="logits"),
            Softmax(3.0, name="probs"),
        ]
    )
    return Member(model, precisions)


@pytest.mark.parametrize("precisions", [[FULL], [W2A4]])
def test_a_member_computes_what_its_model_does(precisions, session, random):
    member = small_member(precisions)
    start(session)
    x = random.normal(size=(8, FEATURES)).astype(np.float32)
    fed = tf.constant(x)
    tensors = [member.fprop(fed), member.get_probs(fed), member.decision(fed)]
    layers, probs, decision = session.run(tensors)
    assert list(layers) == member.get_layer_names() == ["hidden", "logits", "probs"]
    np.testing.assert_array_equal(probs, layers["probs"])
    np.testing.assert_array_equal(decision, layers["logits"].argmax(axis=1))
    # The same float32 operations, fused differently perhaps.
    np.testing.assert_allclose(probs, session.run(member.model(fed)), rtol=1e-5, atol=1e-7)
    assert member.get_params() == member.model.weights and len(member.get_params()) == 3


@pytest.mark.parametrize(
    "precisions, full",
    [
        ([FULL] * 3, True),
        ([W2A4] * 3, False),
        ([FULL, FULL, Precision(None, 4)], False),
        ([Precision(2, None), FULL, FULL], False),
    ],
)
def test_a_member_is_full_precision_if_no_layer_is_quantized(precisions, full):
    assert Member(keras.Sequential(), precisions).is_full_precision == full


@pytest.mark.slow
def test_the_papers_ensemble_of_narrow_networks(session, random):
    members = [
        Member(mnistconv.ARCHITECTURE.build(precision, nb_filters=2, seed=seed), [precision] * 3)
        for seed, precision in enumerate((W2A4, W2A4, FULL))
    ]
    ensemble = Ensemble(members, "vote", "released")
    start(session)
    x = tf.constant(random.uniform(size=(50, 28, 28, 1)), tf.float32)
    logits = ensemble.member_logits(x)
    own = tf.reduce_max(members[2].get_logits(x), axis=1)
    targets = [ensemble.target(attack).get_logits(x) for attack in ("cw", "fgsm")]
    views = [tf.reduce_max(target, axis=1) for target in targets]
    each, decided, gradients, of_cw, of_fgsm = session.run(
        [logits, ensemble.decision(x)] + [tf.gradients(view, x)[0] for view in [own] + views]
    )
    ballots = np.stack(each).argmax(axis=2).T.tolist()
    np.testing.assert_array_equal(decided, [slow_vote(row, 2) for row in ballots])
    # Gradients through the same float32 operations, of size 0.01 to 1.
    np.testing.assert_allclose(of_cw, gradients, rtol=1e-4, atol=1e-6)
    assert np.abs(of_fgsm - gradients).max() > 1e-3
