"""The suite: worst case per image, resumable to the same bytes, and the command around it."""

import contextlib
import dataclasses
import filecmp
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest

from empir.attacks import pgd
from empir.errors import EmpirError, ResumeError
from empir.evaluation import runner, suite
from empir.evaluation.graph import Judge, Networks
from empir.evaluation.specs import LIKELY, AttackSpec
from empir.evaluation.suites import Effort, adaptive, controls, left_out
from empir.evaluation.threat import Threat
from empir.evaluation.views import ViewSpec
from empir.models.ensemble import Ensemble
from empir.report import robustness as report
from empir.runtime import tf
from tests.support import ROOT
from tests.support.known import COUNT, UNOPTIMIZED, Case, Known, arrays
from tests.support.pinned import assert_pinned
from tests.support.released import save_members
from tests.support.scripts import assert_refused

pytestmark = pytest.mark.slow  # it runs whole evaluations

RULES = ("vote", "mean_logits")


@pytest.fixture
def case(random):
    """A `Case`."""
    return Case(random)


SPECS = (
    AttackSpec("noise", "noise", restarts=3, everyone=True),
    AttackSpec("fgsm", "fgsm", ViewSpec("mean_logits", "ce"), everyone=True),
    AttackSpec("apgd", "apgd", ViewSpec(), steps=5, everyone=True),
    AttackSpec("member1", "apgd", ViewSpec("member1"), steps=5),
    AttackSpec("targeted", "apgd", ViewSpec(), steps=10, restarts=3, targets=LIKELY),
    AttackSpec("square", "square", ViewSpec(), steps=20),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outcome of `SPECS` on the `case` of every test, in the plain setting."""
    setting = Case(np.random.RandomState(0)).setting()
    out = str(tmp_path_factory.mktemp("whole"))
    return suite.run(setting, out, SPECS, progress=False, analyses=False)


def test_the_worst_case_is_taken_per_image(case, whole):
    outcome, out = whole, whole.folder
    record, labels = outcome.record, case.data.labels
    expected = case.decided == labels
    assert record["clean_accuracy"] == expected.mean() == 0.75
    for trial, row in zip(SPECS, record["trials"]):
        found = arrays(out, trial.name)
        if trial.everyone:
            assert list(found["row"]) == list(range(COUNT))
            assert row["accuracy"] == 1 - found["success"].mean()
        else:
            assert list(found["row"]) == list(np.flatnonzero(expected)) and row["accuracy"] is None
        assert (row["attacked"], row["broken"]) == (len(found["row"]), found["success"].sum())
        expected[found["row"][found["success"]]] = False
        assert row["worst_case"] == expected.mean()
    broken = outcome.adversarial(range(COUNT))
    left = np.array([found is None for found in broken]) & (case.decided == labels)
    np.testing.assert_array_equal(left, expected)
    for image in np.flatnonzero(outcome.first_success >= 0):
        change = broken[image]["adversarial"] - case.data.images[image]
        assert broken[image]["row"] == image and broken[image]["decision"] != labels[image]
        assert abs(np.linalg.norm(change) - outcome.l2[image]) < 1e-5
    assert not outcome.l2[outcome.first_success < 0].any() and (outcome.first_success >= 0).any()
    assert record["worst_case_accuracy"] == expected.mean() < 0.75
    assert record["interval"][0] < expected.mean() < record["interval"][1]
    with open(os.path.join(out, "result.json")) as file:
        assert json.load(file) == json.loads(json.dumps(record))


def test_the_time_left_is_told_after_a_first_auto_pgd(case, tmp_path, caplog):
    caplog.set_level("INFO", "empir")
    ahead = (
        AttackSpec("zeroth", "noise", everyone=True),
        AttackSpec("first", "apgd", ViewSpec(), steps=10, everyone=True),
        AttackSpec("second", "apgd", ViewSpec(), steps=4, restarts=5, images=1),
    )
    suite.run(case.setting(), str(tmp_path), ahead, progress=False, analyses=False)
    lines = [text for text in caplog.messages if "success on" in text]
    told = [re.search(r"about \d+ min left\)$", line) is not None for line in lines]
    assert told == [False, True, False]


def test_an_attack_for_which_no_image_remains_says_so(case, tmp_path, caplog):
    caplog.set_level("INFO", "empir")
    trials = (AttackSpec("far", "noise", eps=1.0, restarts=30), AttackSpec("after", "fgsm"))
    setting = case.setting(eps=1.0)
    record = suite.run(setting, str(tmp_path), trials, progress=False, analyses=False).record
    assert record["worst_case_accuracy"] == 0
    assert "after: no image remains for it, 0.00 % of all correct so far (0 s)" in caplog.messages


@pytest.mark.parametrize("norm, order, eps", [("linf", np.inf, 0.05), ("l2", 2, 0.1)])
def test_kept_images_are_in_the_ball_and_decided_as_kept(case, whole, tmp_path, norm, order, eps):
    trials, out = SPECS, whole.folder
    if norm == "l2":
        trials, out = [trial for trial in SPECS if trial.attack != "square"], str(tmp_path)
        suite.run(case.setting(norm=norm, eps=eps), out, trials, progress=False, analyses=False)
    for trial in trials:
        found = arrays(out, trial.name)
        clean = case.data.images[found["row"]]
        change = (found["adversarial"] - clean).reshape(len(clean), -1)
        assert np.linalg.norm(change, order, axis=1).max() <= eps * (1 + 1e-5)
        decided = case.logits(found["adversarial"]).argmax(axis=1)
        np.testing.assert_array_equal(found["decision"], decided)
        wrong = decided != case.data.labels[found["row"]]
        np.testing.assert_array_equal(found["success"], wrong)


def test_targeted_rounds_go_from_the_runner_up_on(case):
    logits = case.logits(case.data.images)
    with case.open() as networks:
        judge = Judge(case.setting(), networks)
        clean = runner.clean_outputs(judge, case.setting())
    np.testing.assert_array_equal(clean["decision"], case.decided)
    ranking = clean["ranking"]
    assert ranking.shape == (COUNT, 3)
    for row, label, classes in zip(logits, case.data.labels, ranking):
        assert label not in classes and (np.diff(row[classes]) <= 0).all()


def test_an_image_leaves_a_trial_at_its_first_success(case, tmp_path):
    trial = AttackSpec("noise", "noise", restarts=4, everyone=True)
    suite.run(case.setting(eps=0.3), str(tmp_path), [trial], progress=False, analyses=False)
    found = arrays(str(tmp_path), "noise")
    assert (found["rounds"][~found["success"]] == 4).all()
    clean_wrong = case.decided != case.data.labels
    assert {1, 4} <= set(found["rounds"]) and (found["rounds"][clean_wrong] < 4).any()


def test_results_do_not_depend_on_chunks(case, whole, tmp_path):
    suite.run(case.setting(batch_size=7), str(tmp_path), SPECS, progress=False, analyses=False)
    for trial in SPECS:
        few, many = (arrays(out, trial.name) for out in (str(tmp_path), whole.folder))
        for name in few:
            np.testing.assert_allclose(few[name], many[name], atol=1e-6, err_msg=trial.name)


def test_a_killed_run_goes_on_to_the_same_bytes(case, whole, tmp_path, monkeypatch):
    attack, done = runner.attack_examples, []

    def killed(*arguments):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(arguments)
        return attack(*arguments)

    out = str(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runner, "attack_examples", killed)
        suite.run(case.setting(), out, SPECS, progress=False, analyses=False)
    assert not os.path.exists(os.path.join(out, "result.json"))
    with pytest.raises(ResumeError, match="eps was 0.05, now 0.1"):
        suite.run(case.setting(eps=0.1), out, SPECS, progress=False, analyses=False)
    resumed = suite.run(case.setting(), out, SPECS, progress=False, analyses=False).record
    for trial in SPECS:
        files = [os.path.join(folder, trial.name, "examples.npz") for folder in (whole.folder, out)]
        assert filecmp.cmp(*files, shallow=False)
    expected, found = (
        [{key: value for key, value in row.items() if key != "seconds"} for row in record["trials"]]
        for record in (whole.record, resumed)
    )
    assert found == expected


def test_an_image_outside_its_ball_is_an_error(case, tmp_path, monkeypatch):
    monkeypatch.setattr(pgd, "project", lambda drawn, order, eps: 2 * drawn)
    with pytest.raises(EmpirError, match="noise gave an invalid result: example 0 .* is 0.0"):
        suite.run(case.setting(), str(tmp_path), SPECS[:1], progress=False, analyses=False)


class Overflowing(Known):
    """Logits that are infinite and then NaN where a pixel leaves the range of the clean images."""

    def get_logits(self, x):
        """As `Known`, but for those."""
        logits = super().get_logits(x)
        left = tf.reduce_any((x < 0.3) | (x > 0.7), axis=[1, 2, 3])
        return tf.where(left, logits / 0.0, logits)


@pytest.mark.parametrize(
    "kind, weights, says",
    [
        (Known, np.nan, "the ensemble gave an invalid result: example 0 is clean and has logits"),
        (Known, 1e39, "the ensemble gave an invalid result: example 0 is clean and has logits"),
        (Overflowing, None, r"noise gave an invalid result: example \d+ has logits that are not"),
    ],
)
def test_logits_that_are_not_finite_are_an_error(case, tmp_path, kind, weights, says):
    """One member's are enough, whatever the others decide."""

    @contextlib.contextmanager
    def opened():
        with tf.Graph().as_default(), tf.Session(config=UNOPTIMIZED) as session:
            first = case.w[0] if weights is None else np.full_like(case.w[0], weights)
            members = [kind(first), Known(case.w[1])]
            yield Networks(session, Ensemble(members, "vote"), [])

    setting = case.setting(open=opened)
    with pytest.raises(EmpirError, match=says):
        suite.run(setting, str(tmp_path), SPECS[:1], progress=False, analyses=False)


class Wavering(Known):
    """Decides wrongly in one pass of seven, at random."""

    draws = True

    def get_logits(self, x):
        """Logits."""
        logits = super().get_logits(x)
        wrong = tf.one_hot((tf.argmax(logits, axis=1) + 1) % 4, 4)
        drawn = tf.cast(tf.random_uniform(tf.shape(x)[:1]) < 1 / 7, tf.float32)
        return logits + 100 * wrong * tf.expand_dims(drawn, 1)


def test_a_random_network_is_judged_by_most_of_its_passes(case, tmp_path):
    """By one pass, ten rounds of noise would break nearly every image by chance."""

    @contextlib.contextmanager
    def opened():
        with tf.Graph().as_default(), tf.Session(config=UNOPTIMIZED) as session:
            tf.set_random_seed(1)
            yield Networks(session, Ensemble([Wavering(case.w[0] + case.w[1])]))

    data = dataclasses.replace(case.data, labels=case.decided)
    setting = case.setting(eps=1e-5, batch_size=40, open=opened, data=data)
    trials = (
        AttackSpec("noise", "noise", restarts=10, everyone=True),
        AttackSpec("fgsm", "fgsm", ViewSpec("mean_logits", "ce"), everyone=True),
        AttackSpec("apgd", "apgd", ViewSpec(), steps=5, everyone=True),
        AttackSpec("square", "square", ViewSpec(), steps=20, everyone=True),
        AttackSpec("hopskipjump", "hopskipjump", steps=1, images=5),
    )
    record = suite.run(setting, str(tmp_path), trials, progress=False, analyses=False).record
    assert record["clean_accuracy"] == record["worst_case_accuracy"] == 1
    assert [trial["broken"] for trial in record["trials"]] == [0] * len(trials)
    far = case.setting(eps=0.5, batch_size=40, open=opened, data=data)
    found = suite.run(
        far, str(tmp_path / "far"), trials[2:4], progress=False, analyses=False
    ).record
    assert [trial["accuracy"] < 0.2 for trial in found["trials"]] == [True, True]


def test_the_default_suite_fits_the_number_of_classes(case):
    with case.open() as networks:
        many, four, two = (
            {trial.name: trial for trial in adaptive(networks.ensemble, classes=count)}
            for count in (1000, 4, 2)
        )
    assert set(many) == set(four) and set(four) - set(two) == {"apgd-dlr", "apgd-scaled-ce"}
    assert [suite["apgd-targeted"].restarts for suite in (many, four, two)] == [9, 3, 1]


def test_a_damaged_part_of_a_run_is_named(case, tmp_path):
    def run():
        return suite.run(case.setting(), str(tmp_path), SPECS[:2], progress=False, analyses=False)

    run()
    kept = tmp_path / "noise" / "examples.npz"
    whole = kept.read_bytes()
    for damage in (None, b"", whole[:-200], whole[:60]):
        kept.unlink()
        if damage is not None:
            kept.write_bytes(damage)
        with pytest.raises(ResumeError, match="noise has no sound examples.npz .*: remove the"):
            run()
        kept.write_bytes(whole)
    run()


@pytest.mark.parametrize("name", ["result.json", "partial"])
def test_the_folder_of_another_kind_of_run_is_refused(case, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ResumeError, match="%s is of another kind of run" % name):
        suite.run(case.setting(), str(tmp_path), SPECS[:1], progress=False, analyses=False)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_finished_run_keeps_its_analyses(case, tmp_path, monkeypatch):
    monkeypatch.setattr(suite.curves, "specs_of", lambda *_: [])
    monkeypatch.setattr(suite.curves, "measure", lambda *_: {"radius": [[0.0, 0.75]]})
    monkeypatch.setattr(suite.suites, "controls", lambda *_: ())

    def run(analyses):
        return suite.run(
            case.setting(), str(tmp_path), SPECS[:2], progress=False, analyses=analyses
        ).record

    assert run(False)["curves"] == {}
    for analyses in (True, False):
        record = run(analyses)
        assert record["curves"] and record["verdicts"]


@pytest.mark.parametrize(
    "rule, outputs, only",
    [
        ("vote", "vote", {"apgd-vote", "apgd-vote-next", "apgd-vote-sum"}),
        ("mean_probs", "mean_probs", set()),
        ("mean_logits", "mean_logits", set()),
    ],
)
def test_every_decision_rule_is_attacked_by_its_own_margin(case, rule, outputs, only):
    with case.open() as networks:
        members = networks.ensemble.members
        specs = {spec.name: spec for spec in adaptive(Ensemble(members, rule))}
        alone = adaptive(Ensemble(members[:1], rule))
    own = ("apgd-restarts", "apgd-targeted", "apgd-continued", "apgd-final", "square")
    assert {specs[name].view.outputs for name in own} == {outputs}
    assert {name for name in specs if name.startswith("apgd-vote")} == only
    assert not {"vote", "mean_probs"} & {spec.view.outputs for spec in alone if spec.view}


@pytest.mark.parametrize("radius, waves", [(0.001, [4]), (0.5, [4] * 7 + [2])])
def test_a_pilot_goes_on_while_it_succeeds(case, tmp_path, radius, waves):
    pilot = AttackSpec("pilot", "apgd", ViewSpec(), steps=5, images=4, pilot=True)
    setting = case.setting(eps=radius)
    found = suite.run(setting, str(tmp_path), [pilot], progress=False, analyses=False)
    rows = [(row["name"], row["attacked"]) for row in found.record["trials"]]
    names = ["pilot"] + ["pilot-%d" % number for number in range(2, len(waves) + 1)]
    assert rows == list(zip(names, waves))
    assert found.record["worst_case_accuracy"] == (0 if len(waves) > 1 else 0.75)


def test_a_pilot_attacks_the_images_that_are_closest_to_a_misclassification(case, tmp_path):
    noise = AttackSpec("noise", "noise", everyone=True)
    pilot = AttackSpec("pilot", "apgd", ViewSpec(), steps=5, images=5, pilot=True)
    setting = case.setting(eps=0.02)
    record = suite.run(
        setting, str(tmp_path), [noise, pilot], progress=False, analyses=False
    ).record
    labels, first = case.data.labels, arrays(str(tmp_path), "noise")
    logits = case.logits(first["adversarial"])
    true = logits[np.arange(COUNT), labels]
    margin = np.where(np.eye(4)[labels] > 0, -np.inf, logits).max(axis=1) - true
    np.testing.assert_allclose(first["margin"], margin, atol=1e-5)
    left = (case.decided == labels) & ~first["success"]
    waves = [arrays(str(tmp_path), row["name"]) for row in record["trials"][1:]]
    # It ends at a wave that finds nothing, before it has attacked all.
    assert [wave["success"].any() for wave in waves] == [True] * (len(waves) - 1) + [False]
    assert len(waves) > 2 and 5 * len(waves) < left.sum()
    order = sorted(np.flatnonzero(left), key=lambda image: -margin[image])
    for number, wave in enumerate(waves):
        assert list(wave["row"]) == sorted(order[5 * number : 5 * (number + 1)])


def test_a_final_stage_is_for_few_images(case, tmp_path):
    def attacked(at_most):
        spec = AttackSpec("final", "noise", at_most=at_most)
        out = str(tmp_path / str(at_most))
        record = suite.run(case.setting(), out, [spec], progress=False, analyses=False).record
        return record["trials"][0]["attacked"]

    assert [attacked(count) for count in (29, 30)] == [0, 30]


def test_networks_are_opened_once_to_judge_and_once_for_a_graph(case, tmp_path):
    opened = []

    @contextlib.contextmanager
    def counted():
        opened.append(None)
        with case.open() as networks:
            yield networks

    setting = case.setting(open=counted)
    trials = [AttackSpec(name, "noise", everyone=True) for name in ("first", "second")]
    suite.run(setting, str(tmp_path), trials, progress=False, analyses=False)
    assert len(opened) == 2


def test_an_attack_goes_on_where_another_one_ended(case, tmp_path):
    first = AttackSpec("first", "apgd", ViewSpec("member2"), steps=5, everyone=True)
    then = AttackSpec("then", "apgd", ViewSpec(), steps=1, start="first")
    setting = case.setting(eps=0.01, batch_size=7)
    suite.run(setting, str(tmp_path), [first, then], progress=False, analyses=False)
    before, after = (arrays(str(tmp_path), name) for name in ("first", "then"))
    started = before["adversarial"][after["row"]]
    loss = [
        _mean_margin(case, images, case.data.labels[after["row"]])
        for images in (started, after["adversarial"])
    ]
    assert len(after["row"]) and (loss[1] >= loss[0] - 1e-5).all()
    # A step of at most twice the radius cannot lead to the same place from another start.
    assert (np.abs(after["adversarial"] - started).max(axis=(1, 2, 3)) < 0.02 + 1e-6).all()


def _mean_margin(case, images, labels):
    logits = case.logits(images)
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return others.max(axis=1) - logits[rows, labels]


def test_no_attack_of_the_suite_repeats_the_random_starts_of_another(case):
    with case.open() as networks:
        specs = adaptive(networks.ensemble, outside=1) + controls(Threat(eps=0.1), 1.0, ViewSpec())
    seeds = [spec.seed for spec in specs if spec.attack == "apgd" and spec.eps is None]
    assert len(seeds) == len(set(seeds)) > 10


def test_the_default_suite_fits_the_ensemble(case):
    with case.open() as networks:
        ensemble = networks.ensemble
        names = [spec.name for spec in adaptive(ensemble)]
        l2 = [spec.name for spec in adaptive(ensemble, "l2")]
        single = [spec.name for spec in adaptive(Ensemble(ensemble.members[:1]))]
        outside = [spec.name for spec in adaptive(ensemble, outside=2)]
        assert not any(spec.view and spec.view.samples > 1 for spec in adaptive(ensemble))
        ensemble = Ensemble([Wavering(case.w[0]), *ensemble.members[1:]])
        longer = adaptive(ensemble, outside=1, effort=Effort(31, 7))
        steps = {spec.name: spec.steps for spec in longer}
        assert (steps["apgd-ce"], steps["apgd-targeted"], steps["apgd-outside1"]) == (40, 31, 16)
        assert {trial.name: trial.restarts for trial in longer}["apgd-restarts"] == 7
        drawing = [spec for spec in adaptive(ensemble) if spec.view]
    assert len(names) == len(set(names)) and {"noise", "fgsm", "apgd-ce", "square"} <= set(names)
    assert {"apgd-balanced", "apgd-member1", "apgd-member2"} <= set(names)
    assert not {"apgd-open", "apgd-smooth"} & set(names)  # nothing is quantized
    assert set(names) - set(l2) == {"square", "rays"}
    assert set(outside) - set(names) == {"apgd-outside1", "apgd-outside2"}
    assert all(spec.view.samples > 1 for spec in drawing)
    assert not {name for name in single if "member" in name or "balanced" in name}


@pytest.mark.parametrize(
    "norm, outside, classes, names",
    [
        ("linf", 1, 10, []),
        ("linf", 0, 10, ["apgd-outside"]),
        ("l2", 2, 10, ["square", "rays"]),
        ("linf", 1, 2, ["apgd-dlr", "apgd-scaled-ce"]),
        ("l2", 0, 2, ["apgd-dlr", "apgd-scaled-ce", "apgd-outside", "square", "rays"]),
    ],
)
def test_what_the_default_suite_lacks_is_named(case, norm, outside, classes, names):
    missing = left_out(norm, outside, classes)
    assert [attack.attack for attack in missing] == names and all(a.reason for a in missing)
    with case.open() as networks:
        whole = adaptive(networks.ensemble, outside=1)
        suite = adaptive(networks.ensemble, norm, outside=outside, classes=classes)
    lacking = {trial.name for trial in whole} - {trial.name for trial in suite}
    assert {name.rstrip("1") for name in lacking} == set(names)


def test_an_attack_that_was_left_out_is_in_the_record_and_in_every_report(
    case, tmp_path, monkeypatch
):
    @contextlib.contextmanager
    def alone():
        with case.open() as networks:
            yield replace(networks, outside=[])

    monkeypatch.setattr(
        suite.suites, "adaptive", lambda *_, **__: SPECS[:1]
    )  # the others take long
    setting, out = case.setting(norm="l2", eps=0.1, open=alone), str(tmp_path)
    outcome = suite.run(setting, out, progress=False, analyses=False)
    names = [attack["attack"] for attack in outcome.record["left_out"]]
    assert names == ["apgd-outside", "square", "rays"]
    report.write(outcome, case.data, out)
    texts = [(tmp_path / name).read_text() for name in ("report.md", "report.html")]
    for text in texts + [report.terminal(outcome.record)]:
        assert "apgd-outside" in text and "there is no network outside the ensemble" in text
        assert "square" in text and "for the L-infinity norm only" in text
    before = {key: value for key, value in outcome.record.items() if key != "left_out"}
    assert "not run" not in report.terminal(before) + report.markdown(before)


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(eps=0.0), "eps=0.0"),
        (dict(norm="l1"), "norm='l1': choose from linf, l2"),
        (dict(seed=-1), "seed=-1"),
    ],
)
def test_bad_settings_are_named(case, tmp_path, changes, says):
    with pytest.raises(EmpirError, match=says):
        suite.run(case.setting(**changes), str(tmp_path / "out"), SPECS)
    assert not (tmp_path / "out").exists()


def test_the_report_has_a_row_per_trial(whole):
    record = whole.record
    text, page = report.terminal(record), report.markdown(record)
    for trial in SPECS:
        assert trial.name in text and "| %s" % trial.name in page
    worst = "robust accuracy %.2f %%" % (100 * record["worst_case_accuracy"])
    assert worst in text and worst in page and "3 targets" in text and "3 starts" in text


def test_the_command(empir_command, tmp_path):
    save_members(str(tmp_path))
    line = "--dataset=mnist --sample --nb_filters=4 --nb_samples=5 --eps=0.02 --noprogress "
    line += "--members=w2a4:model1,fp:model3 --outside=w2a4:model2 --noanalyses --out=out "
    line += "--nb_iter=9 --restarts=2"
    process = empir_command("robustness " + line, tmp_path)
    assert process.returncode == 0, process.stderr
    with open(str(tmp_path / "out" / "result.json")) as file:
        record = json.load(file)
    assert record["architecture"] == "MNISTconv" and record["num_examples"] == 5
    assert [m["weight_bits"] for m in record["members"]] == [2, None]
    assert [m["weight_bits"] for m in record["outside"]] == [2]
    (restarts,) = [trial for trial in record["trials"] if trial["name"] == "apgd-restarts"]
    assert (restarts["steps"], restarts["rounds"]) == (9, 2)
    assert process.stdout == report.terminal(record) + "\n"
    assert (tmp_path / "out" / "report.md").read_text() == report.markdown(record) + "\n"
    assert_pinned("robustness", tmp_path / "out")
    # Everything is there: the same command only prints.
    again = empir_command("robustness " + line, tmp_path)
    assert again.returncode == 0 and "worst case" in again.stdout


@pytest.mark.parametrize(
    "line, says",
    [
        ("", "--out is missing"),
        ("--out=setup.py/x", "is not a writable folder"),
        ("--out=runs/none --norm=l2", "--norm=l2 needs --eps"),
        ("--out=runs/none --norm=l3", "--norm=l3: choose from linf, l2"),
        ("--out=runs/none --num_threads=0", "num_threads"),
        ("--out=runs/none --dataset=svhn", "--dataset=svhn: choose from mnist"),
        ("--out=runs/none --sample --members=fp", "'fp' is not PRECISION:CHECKPOINT"),
        ("--out=runs/none --sample --outside=fp", "--outside: 'fp' is not PRECISION:CHECKPOINT"),
        ("--out=runs/none --sample --nb_samples=1001", "nb_samples=1001"),
        ("--out=runs/none --sample --nb_samples=5 --eps=-1", "eps=-1"),
        ("--out=runs/none --sample --restarts=0", "restarts"),
        ("--out=runs/none --sample --nb_samples=5 --combine=median", "combine='median'"),
    ],
)
def test_bad_input_is_one_line(empir_command, line, says):
    assert_refused(empir_command("robustness " + line), says)
    assert not os.path.exists(os.path.join(ROOT, "runs", "none"))
