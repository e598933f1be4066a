"""The time left of an evaluation: foretold from what has run, measured against whole runs."""

import glob
import os

import pytest

from empir.evaluation.specs import AttackSpec
from empir.evaluation.time_left import seconds_left
from empir.evaluation.views import ViewSpec
from empir.records.runs import read_json
from tests.support import RESULTS

#: An evaluation of 20 images on one core: trial, images, steps x starts, s, images left.
SMALL = """
noise 20 1x10 1.75 20; fgsm 20 1x1 1.92 17; apgd-ce 20 40x1 3.49 5; apgd-margin 20 40x1 3.3 5;
apgd-dlr 5 10x1 2.94 5; apgd-probs 5 10x1 2.83 5; apgd-balanced 5 10x1 3.21 5;
apgd-member1 5 5x1 2.55 5; apgd-member2 5 5x1 2.52 5; apgd-restarts 5 10x1 2.83 5;
apgd-targeted 5 10x9 3.33 5; square 5 1000x1 5.28 5; hopskipjump 5 10x1 8.22 5;
apgd-steps-10 20 10x1 2.73 5; apgd-steps-80 20 80x1 3.6 5; cw 20 100x1 33.61 5
"""


def small():
    """[(trial, images, seconds, images left)] of `SMALL`."""
    for words in SMALL.replace("\n", "").split(";"):
        name, images, effort, seconds, left = words.split()
        steps, rounds = map(int, effort.split("x"))
        everyone = int(images) == 20
        trial = AttackSpec(
            name,
            name.split("-")[0],
            ViewSpec(name),
            steps=steps,
            restarts=rounds,
            everyone=everyone,
        )
        yield trial, int(images), float(seconds), int(left)


def recorded(path):
    """The same of a record of an evaluation."""
    record = read_json(path)
    for row in record["trials"]:
        kept = ("name", "attack", "steps", "everyone", "images", "eps", "seed", "part")
        spec = AttackSpec(
            view=row["goal"] and ViewSpec(row["goal"]),
            restarts=row["rounds"],
            at_most=row.get("at_most"),
            **{key: row[key] for key in kept},
        )
        left = round(row["worst_case"] * record["num_examples"])
        yield spec, row["attacked"], row["seconds"], left


def foretold(attacks, after):
    """(foretold, true) seconds that are left after so many of the attacks."""
    done, ahead = attacks[:after], attacks[after:]
    left, most = done[-1][3], max(images for _, images, _, _ in attacks)
    seen = [
        (trial, min(most if trial.everyone else left, trial.images or most))
        for trial, _, _, _ in ahead
        if trial.at_most is None or left <= trial.at_most
    ]
    told = seconds_left([attack[:3] for attack in done], seen)
    return told, sum(seconds for _, _, seconds, _ in ahead)


@pytest.mark.parametrize("after, tolerance", [(3, 1.5), (5, 1.5), (9, 2), (13, 2)])
def test_of_a_small_evaluation_it_is_not_many_times_too_long(after, tolerance):
    """A pace per image and step, of attacks that are mostly the making of graphs, is 3 to 14."""
    told, true = foretold(list(small()), after)
    assert true / tolerance < told < true * tolerance


@pytest.mark.parametrize(
    "name",
    [
        "mnist-ensemble-0.1-vote",
        "cifar10-ensemble-8-255-vote",
        "mnist-pgd-0.3-mean_logits",
    ],
)
def test_of_a_large_evaluation_it_is_about_right(name):
    attacks = list(recorded(os.path.join(RESULTS, "robustness", name + ".json")))
    for after in (3, 4, 5, len(attacks) // 3):
        told, true = foretold(attacks, after)
        assert true / 2 < told < true * 2


def test_nothing_is_foretold_before_an_auto_pgd_was_measured():
    attacks = list(small())
    assert foretold(attacks, 1)[0] is foretold(attacks, 2)[0] is None
    nothing = (attacks[2][0], 0, 0.0)
    assert seconds_left([attacks[0][:3], nothing], [(attacks[3][0], 20)]) is None
    assert seconds_left([], []) is None
    assert seconds_left([attacks[0][:3]], []) == 0
    assert seconds_left([attacks[0][:3]], [(attacks[1][0], 20)]) > 0


def test_it_is_finite_and_positive_whatever_was_measured():
    trials = [
        AttackSpec(name, name, steps=5)
        for name in ("noise", "fgsm", "apgd", "square", "cw", "hopskipjump")
    ]
    for seconds in ((1, 9, 2), (9, 1, 1), (0, 0, 0), (5, 0, 0)):
        done = [(trial, n, s) for trial, n, s in zip(trials, (100, 1, 10), map(float, seconds))]
        told = seconds_left(done, [(trial, 7) for trial in trials])
        assert 0 <= told < 1e6 and (told > 0) == any(seconds)


def test_every_record_of_a_run_can_be_foretold():
    for path in glob.glob(os.path.join(RESULTS, "robustness", "*.json")):
        attacks = list(recorded(path))
        told = [foretold(attacks, after)[0] for after in range(3, len(attacks))]
        assert all(0 <= seconds < 86400 for seconds in told)
