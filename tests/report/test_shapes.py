"""Records of another shape: whatever is wrong in one, a report names the file and the place."""

import copy
import json
import os
import re
import shutil

import pytest

from benchmarks.pages import autoattack, defenses, radius, render, speed
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.report import robustness, rows, shapes, tables
from empir.report.page import page
from empir.report.results import RESULTS
from tests.support.reported import RECORD, record

#: What stands in the place of a value: damaged by hand, by a program, or of another kind.
WRONG = (None, "x\n<b>", -1, 10**400, float("nan"), True, [], {"a": None})
MNIST, CIFAR10, IMAGENET = (EXPERIMENTS[name] for name in ("mnist", "cifar10", "imagenet"))
#: A suite's record with curves.
(SUITE, *_) = [
    row.name + ".json"
    for row in rows.suites(os.path.join(RESULTS, "robustness"), "mnist")
    if row.suite()["curves"]
]
#: File below the records -> the tables and figures that read it.
TABLES = {
    "mnist/empir-whitebox/fgsm/result.json": [
        lambda base: tables.markdown(base + "/mnist", MNIST),
        lambda base: tables.terminal(base + "/mnist", MNIST),
        lambda base: tables.cost_markdown(base + "/mnist", MNIST),
        lambda base: tables.member_markdown(base + "/mnist", MNIST),
    ],
    "mnist/empir-paper/fgsm/result.json": [
        lambda base: tables.survivors_markdown(base + "/mnist", MNIST),
    ],
    "defenses/mnist/pgd/baseline/pgd/result.json": [
        lambda base: defenses.markdown(base + "/mnist", MNIST)
    ],
    "cifar10/epochs/model3-fp.json": [
        lambda base: tables.epochs_markdown(base + "/cifar10", CIFAR10)
    ],
    "robustness/"
    + SUITE: [
        lambda base: robustness.summary(base + "/mnist", MNIST),
        lambda base: radius.points(base + "/robustness", MNIST),
    ],
    "robustness/pgd/mnist-baseline-0.1-whitebox.json": [
        lambda base: robustness.summary(base + "/mnist", MNIST),
    ],
    "robustness/pgd/mnist-ensemble-0.2-paper.json": [
        lambda base: radius.points(base + "/robustness", MNIST),
    ],
    "robustness/outside/mnist-ensemble-0.3-mean_logits.json": [
        lambda base: robustness.summary(base + "/mnist", MNIST),
        lambda base: autoattack.table(base + "/mnist", MNIST),
    ],
    "benchmark/comparison.json": [
        lambda base: speed.attacks_markdown(base + "/mnist", None),
        lambda base: speed.batches_markdown(base + "/mnist", None),
        lambda base: speed.training_markdown(base + "/mnist", None),
        lambda base: speed.startup_markdown(base + "/mnist", None),
        lambda base: speed.bounds_markdown(base + "/mnist", None),
        lambda base: [speed.times(speed.load(base + "/mnist"), "mnist-ensemble")],
    ],
    "benchmark/account-mnist.json": [
        lambda base: speed.account_markdown(base + "/mnist", MNIST),
        lambda base: speed.bounds_markdown(base + "/mnist", None),
    ],
    "benchmark/imagenet-fgsm.json": [
        lambda base: tables.speed_markdown(base + "/imagenet", IMAGENET)
    ],
    "cost.json": [lambda base: render.TABLES["overhead"](base + "/mnist", MNIST)],
}
#: Of large records a part has values of every kind.
KEPT = {
    "attacks": lambda cells: {name: cells[name] for name in ("mnist-ensemble/bim/100",)},
    "training": lambda rates: {"mnist/fp": rates["mnist/fp"]},
    "trials": lambda trials: [t for t in trials if t["name"] in ("noise", "fgsm", "apgd-ce")],
    "curves": lambda curves: {key: curves[key] for key in ("radius",) if key in curves},
    "ensembles": lambda ensembles: {"mnist": ensembles["mnist"]},
    "history": lambda epochs: epochs[:1] + epochs[-6:],
    **{key: lambda _: {} for key in ("versions", "environments", "logits")},
}


def places(value, path=()):
    """Paths of all values in a JSON value: its own first; of a list, of the first and last item."""
    yield path
    items = []
    if isinstance(value, dict):
        items = value.items()
    if isinstance(value, list) and value:
        items = sorted({0: value[0], len(value) - 1: value[-1]}.items())
    for key, item in items:
        yield from places(item, path + (key,))


def changed(value, path, wrong=None, drop=False):
    """A copy in which the value at a path is another one, or is missing."""
    if not path:
        return wrong
    value = copy.copy(value)
    if len(path) == 1 and drop:
        del value[path[0]]
    else:
        value[path[0]] = changed(value[path[0]], path[1:], wrong, drop)
    return value


def refusal(call):
    """The message of the one line that a call ends in; None if it ends well."""
    try:
        call()
    except EmpirError as error:
        assert len(str(error).splitlines()) == 1
        return str(error)
    return None


#: What tables read beside a record.
BESIDE = {
    "robustness/pgd/mnist-baseline-0.1-whitebox.json": ["robustness/mnist-baseline-0.1.json"],
    "robustness/outside/mnist-ensemble-0.3-mean_logits.json": [
        "robustness/mnist-ensemble-0.3-mean_logits.json"
    ],
    "mnist/empir-paper/fgsm/result.json": ["mnist/empir-paper/fgsm/examples.npz"],
    "cifar10/epochs/model3-fp.json": [
        "cifar10/epochs/model1-w4a2.json",
        "cifar10/epochs/model2-w2a2.json",
    ],
    "benchmark/account-mnist.json": ["benchmark/comparison.json"],
    "benchmark/comparison.json": ["benchmark/account-mnist.json"],
}


def keep(folder, name):
    """Write the part of a committed record that `KEPT` names to a folder; returns that part."""
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    shutil.copy(os.path.join(RESULTS, name), path)
    if not name.endswith(".json"):
        return None
    with open(path) as file:
        whole = json.load(file)
    whole = {key: KEPT.get(key, lambda same: same)(value) for key, value in whole.items()}
    with open(path, "w") as file:
        json.dump(whole, file)
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_record_ends_in_one_line_that_names_file_and_place(tmp_path, name):
    """Each value is replaced by every wrong one, and dropped; a report is made, or names it."""
    folder, path = str(tmp_path), str(tmp_path / name)
    for other in BESIDE.get(name, ()):
        keep(folder, other)
    whole = keep(folder, name)
    assert [refusal(lambda: make(folder)) for make in TABLES[name]] == [None] * len(TABLES[name])
    named = 0
    for place in places(whole):
        for number in range(len(WRONG) + 1):
            drop = number == len(WRONG)
            if drop and not place:
                continue
            damaged = changed(whole, place, None if drop else WRONG[number], drop)
            with open(path, "w") as file:
                json.dump(damaged, file)
            for make in TABLES[name]:
                told = refusal(lambda: make(folder))
                if told is not None:
                    named += 1
                    assert name in told, told
    assert named > 10


@pytest.mark.parametrize("make", [robustness.terminal, robustness.markdown])
def test_a_record_in_memory_likewise(make):
    named = set()
    for place in places(RECORD):
        for number in range(len(WRONG) + 1):
            drop = number == len(WRONG)
            if place:
                damaged = changed(RECORD, place, None if drop else WRONG[number], drop)
                told = refusal(lambda: make(damaged))
                if told is not None:
                    assert told.startswith("the record"), told
                    named.add(place[0])
    assert {"interval", "members", "trials", "eps", "norm", "clean_accuracy"} <= named


@pytest.mark.slow
def test_a_page_names_what_is_wrong_in_its_record():
    plain = record(curves={}, verdicts=[])
    for key in RECORD:
        changes = [changed(plain, (key,), wrong) for wrong in ("x\n<b>", 10**400, [None])]
        for damaged in changes + [changed(plain, (key,), drop=True)]:
            told = refusal(lambda: page(damaged, []))
            assert told is None or re.match("the record(: %s| has no '%s')" % (key, key), told)
    assert refusal(lambda: page(record(curves={"radius": [[0, 2]]}), [])).startswith(
        "the record: curves.radius[0] is [0, 2], not a number and a fraction"
    )


@pytest.mark.parametrize(
    "name, key", [("trials", "goal"), ("verdicts", "see"), ("members", "path")]
)
def test_a_page_names_what_is_missing_inside(name, key):
    told = refusal(lambda: page(changed(record(), (name, 1, key), drop=True), []))
    if name == "members":
        assert told is None  # networks may come from no file
    else:
        assert told.startswith("the record: %s[1] has no '%s'" % (name, key))


@pytest.mark.parametrize("name", ["mnist-other-0.1.json", "mnist-ensemble.json"])
def test_files_that_are_named_otherwise_are_refused(tmp_path, name):
    (tmp_path / "robustness").mkdir()
    (tmp_path / "robustness" / name).write_text("{}")
    with pytest.raises(EmpirError, match="%s is not named DATASET-KIND-RADIUS" % name):
        robustness.summary(str(tmp_path / "mnist"), MNIST)


def test_all_committed_records_have_their_shapes():
    found = [
        (shapes.RESULT, r"(mnist|cifar10|defenses)/.*result\.json|robustness/pgd/.*"),
        (shapes.TRAINING, r"cifar10/epochs/.*"),
        (shapes.ROBUSTNESS, r"robustness/[^/]*"),
        (shapes.OUTSIDE, r"robustness/outside/.*"),
        (shapes.COMPARISON, r"benchmark/comparison\.json"),
        (shapes.ACCOUNT, r"benchmark/account-.*"),
        (shapes.THROUGHPUT, r"benchmark/imagenet-.*"),
        (shapes.SCALE, r"benchmark/scale\.json"),
        (shapes.COST, r"cost\.json"),
    ]
    count = 0
    for folder, _, names in os.walk(RESULTS):
        for name in names:
            path = os.path.join(folder, name)
            for shape, pattern in found:
                if re.fullmatch(pattern, os.path.relpath(path, RESULTS)) and name.endswith(".json"):
                    assert shapes.read(path, shape).where == path
                    count += 1
    assert count > 100
