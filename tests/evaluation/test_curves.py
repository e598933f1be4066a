"""Curves against what the linear ensemble's margins say, and the whole evaluation around them."""

import json

import numpy as np
import pytest

from empir.evaluation import curves, runner, suite, suites
from empir.evaluation.graph import Judge
from empir.evaluation.specs import AttackSpec
from empir.evaluation.suites import Effort
from empir.evaluation.views import ViewSpec
from empir.report import robustness as report
from tests.evaluation.test_suite import SPECS
from tests.support.known import COUNT, Case, arrays

pytestmark = pytest.mark.slow  # it runs whole evaluations

#: Weak attacks, so that there is something left for the curves to find.
SUITE = (
    AttackSpec("noise", "noise", restarts=3, everyone=True),
    AttackSpec("apgd-ce", "apgd", ViewSpec("member1", "ce"), steps=5, everyone=True),
)
#: For which the curves are no longer than these.
EFFORT = Effort(nb_iter=40, restarts=10)


@pytest.fixture(autouse=True, scope="module")
def short():
    """Curves of fewer iterations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "ITERATIONS", (5, 10, 20, 40))
        patch.setattr(suites, "CW_ITERATIONS", 60)
        yield


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """(case, outcome) with all curves; a radius that about half of the images withstand.

    The run was finished without the curves before, and has gone on with them.
    """
    case = Case(np.random.RandomState(3))
    setting = case.setting(eps=0.02, batch_size=COUNT)
    given = setting, str(tmp_path_factory.mktemp("evaluation")), SUITE
    alone = suite.run(*given, progress=False, analyses=False).record
    outcome = suite.run(*given, progress=False, effort=EFFORT)
    assert alone["worst_case_accuracy"] == outcome.record["trials"][len(SUITE) - 1]["worst_case"]
    return case, outcome


def least_radii(case):
    """Per image the L-infinity and the L2 radius from which on it can be misclassified."""
    w = (case.w[0] + case.w[1]) / 2
    logits = case.logits(case.data.images)
    found = np.full((COUNT, 2), np.inf)
    for row, label in enumerate(case.data.labels):
        for other in set(range(4)) - {label}:
            gap = logits[row, label] - logits[row, other]
            slope = w[:, other] - w[:, label]
            radii = gap / np.abs(slope).sum(), gap / np.linalg.norm(slope)
            found[row] = np.minimum(found[row], radii)
    return np.maximum(found, 0).T


def test_accuracy_against_radius_is_the_margins_distribution(evaluated):
    case, outcome = evaluated
    linf, _ = least_radii(case)
    points = outcome.record["curves"]["radius"]
    assert points[0] == [0.0, 0.75] and points[-1][1] == 0
    for eps, accuracy in points[1:]:
        # Clipping to [0, 1] does not reach these images below 0.3.
        assert abs(accuracy - np.mean(linf > eps)) <= 1 / COUNT, eps
    assert 0.02 in [eps for eps, _ in points]
    accuracies = [accuracy for _, accuracy in points]
    assert accuracies == sorted(accuracies, reverse=True) and 0 not in accuracies[:-1]


def test_iterations_and_restarts_end_at_the_same_truth(evaluated):
    case, outcome = evaluated
    linf, _ = least_radii(case)
    left = np.mean(linf > 0.02)
    steps, starts = (outcome.record["curves"][name] for name in ("steps", "restarts"))
    assert [count for count, _ in steps] == list(suites.ITERATIONS)
    assert [count for count, _ in starts] == list(suites.RESTARTS)
    assert abs(steps[-1][1] - left) <= 1 / COUNT and abs(starts[-1][1] - left) <= 1 / COUNT
    assert (np.diff([accuracy for _, accuracy in starts]) <= 0).all()
    found = arrays(outcome.folder, "restarts-10")
    first = 1 - np.mean(found["success"] & (found["rounds"] == 1))
    assert starts[0][1] == first


def test_longer_suites_have_longer_curves(evaluated):
    case, _ = evaluated
    setting = case.setting(eps=0.02)

    def ends(nb_iter, restarts):
        found = curves.specs_of(setting, Effort(nb_iter, restarts), ViewSpec())
        steps = [trial.steps for trial in found if trial.part == "steps"]
        (rounds,) = [trial.restarts for trial in found if trial.part == "restarts"]
        return steps, rounds

    assert ends(40, 10) == ([5, 10, 20, 40], 10)
    assert ends(41, 11) == ([5, 10, 20, 40, 80], 20)
    assert ends(400, 50) == ([5, 10, 20, 40, 80, 160, 320, 640], 80)


def test_cw_finds_the_least_distances(evaluated):
    case, outcome = evaluated
    _, l2 = least_radii(case)
    points = outcome.record["curves"]["distortion"]
    assert len(points) == COUNT and points[-1][1] == 1
    np.testing.assert_allclose([far for far, _ in points], np.sort(l2), atol=0.01)


def test_what_curves_find_inside_the_radius_counts(evaluated):
    case, outcome = evaluated
    alone = outcome.record["trials"][len(SUITE) - 1]["worst_case"]
    whole = outcome.record["worst_case_accuracy"]
    linf, _ = least_radii(case)
    assert whole < alone and abs(whole - np.mean(linf > 0.02)) <= 1 / COUNT
    names = [trial["name"] for trial in outcome.record["trials"]]
    images = np.flatnonzero(outcome.first_success >= len(SUITE))
    assert len(images)
    for image, found in zip(images, outcome.adversarial(images)):
        assert found["linf"] <= 0.02 * (1 + 1e-4)
        assert names[outcome.first_success[image]] not in ("noise", "control-range")


def test_an_evaluation_that_was_killed_goes_on_to_the_same_record(evaluated, tmp_path, monkeypatch):
    case, outcome = evaluated
    run, done = suite.Evaluation.run, []

    def killed(*arguments):
        if len(done) == 12:
            raise KeyboardInterrupt
        done.append(arguments)
        return run(*arguments)

    setting = case.setting(eps=0.02, batch_size=COUNT)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(suite.Evaluation, "run", killed)
        suite.run(setting, str(tmp_path), SUITE, progress=False, effort=EFFORT)
    resumed = suite.run(setting, str(tmp_path), SUITE, progress=False, effort=EFFORT).record
    for name in ("curves", "verdicts", "worst_case_accuracy", "interval"):
        assert resumed[name] == outcome.record[name]


def test_the_whole_range_is_the_end(evaluated, tmp_path):
    case, _ = evaluated
    setting = case.setting(eps=0.6)
    with setting.open() as networks:
        clean = runner.clean_outputs(Judge(setting, networks), setting)
    evaluation = suite.Evaluation(setting, str(tmp_path), clean, progress=False)
    ran = []
    evaluation.run = lambda trial, seen: ran.append((trial.eps, len(seen))) or {
        "row": seen[:1],
        "success": np.ones(1, bool),
    }
    points = curves.radius(evaluation, ViewSpec())
    assert max(eps for eps, _ in points) <= 1.0 and 0.6 in [eps for eps, _ in points]
    assert [left for _, left in ran] == list(range(30, 30 - len(ran), -1))


@pytest.mark.parametrize("far", [0.05, 0.002, 1e-6])
def test_the_curve_goes_to_radii_at_which_something_is_left(random, tmp_path, far):
    """However large the radius of the evaluation is, unless every image breaks at next to none."""
    setting = Case(random).setting(eps=0.8)
    with setting.open() as networks:
        clean = runner.clean_outputs(Judge(setting, networks), setting)
    evaluation = suite.Evaluation(setting, str(tmp_path), clean, progress=False)
    correct = clean["decision"] == setting.data.labels
    breaks_at = np.where(correct, far * np.linspace(0.5, 1.5, COUNT), 0)
    attacked = []

    def run(trial, seen=None):
        seen = np.arange(COUNT) if seen is None else seen
        success = breaks_at[seen] <= (setting.threat.eps if trial.eps is None else trial.eps)
        if trial.part == "radius":
            attacked.append((trial.eps, len(seen)))
        return {"row": seen, "success": success, "rounds": seen + 1, "l2": breaks_at[seen]}

    evaluation.run = run
    points = curves.measure(evaluation, Effort(), ViewSpec())["radius"]
    assert points == [[eps, np.mean(correct & (breaks_at > eps))] for eps, _ in points]
    assert [eps for eps, _ in points] == sorted({eps for eps, _ in points})
    assert points[-1][1] == 0
    if far > 1e-4:
        assert any(correct.mean() / 2 <= share for _, share in points[1:])
    else:
        assert len(attacked) == 7 and points[1][0] == 0.8 / 16 / 64


def test_reports_tell_the_verdicts_and_the_curves(evaluated):
    _, outcome = evaluated
    record = dict(outcome.record)
    page = report.markdown(record)
    for verdict in record["verdicts"]:
        assert "%s See `docs/robustness.md#%s`" % (verdict["reason"], verdict["name"]) in page
    for curve in report.CURVES.values():
        assert curve.title in page
    at_radius = dict(record["curves"]["radius"])[0.02]
    assert "| 0.02 | %.2f |" % (100 * at_radius) in page
    assert "radius-" not in page and "control-range" in page
    record["verdicts"] = [dict(record["verdicts"][0], passed=False)]
    assert "FAILED: Gradients are not zero. The cross-entropy" in report.terminal(record)
    assert json.loads(json.dumps(record)) == record
    assert {trial.name for trial in SPECS} & {row["name"] for row in record["trials"]} == {"noise"}
