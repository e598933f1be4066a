"""Records of another shape: whatever is wrong in one, a report names the file and the place."""

import json
import os
import re
import shutil

import pytest

from benchmarks.pages import autoattack, cost, defenses, paper, radius, speed, suites
from benchmarks.pages.shapes import ACCOUNT, COMPARISON, COST, SCALE, THROUGHPUT, TRAINING
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.report import rows, shapes, tables
from tests.support import RESULTS
from tests.support.damaged import WRONG, changed, places, refusal

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
        lambda base: paper.markdown(base + "/mnist", MNIST),
        lambda base: tables.terminal(base + "/mnist", MNIST),
        lambda base: paper.cost_markdown(base + "/mnist", MNIST),
        lambda base: paper.member_markdown(base + "/mnist", MNIST),
    ],
    "mnist/empir-paper/fgsm/result.json": [
        lambda base: paper.survivors_markdown(base + "/mnist", MNIST),
    ],
    "defenses/mnist/pgd/baseline/pgd/result.json": [
        lambda base: defenses.markdown(base + "/mnist", MNIST)
    ],
    "cifar10/epochs/model3-fp.json": [
        lambda base: paper.epochs_markdown(base + "/cifar10", CIFAR10)
    ],
    "robustness/"
    + SUITE: [
        lambda base: suites.markdown(base + "/mnist", MNIST),
        lambda base: radius.points(base + "/robustness", MNIST),
    ],
    "robustness/pgd/mnist-baseline-0.1-whitebox.json": [
        lambda base: suites.markdown(base + "/mnist", MNIST),
    ],
    "robustness/pgd/mnist-ensemble-0.2-paper.json": [
        lambda base: radius.points(base + "/robustness", MNIST),
    ],
    "robustness/outside/mnist-ensemble-0.3-mean_logits.json": [
        lambda base: suites.markdown(base + "/mnist", MNIST),
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
        lambda base: speed.throughput_markdown(base + "/imagenet", IMAGENET)
    ],
    "cost.json": [lambda base: cost.markdown(base + "/mnist", MNIST)],
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
                file.write(json.dumps(damaged))  # by json's encoder in C, as json.dump does not
            for make in TABLES[name]:
                told = refusal(lambda: make(folder))
                if told is not None:
                    named += 1
                    assert name in told, told
    assert named > 10


@pytest.mark.parametrize("name", ["mnist-other-0.1.json", "mnist-ensemble.json"])
def test_files_that_are_named_otherwise_are_refused(tmp_path, name):
    (tmp_path / "robustness").mkdir()
    (tmp_path / "robustness" / name).write_text("{}")
    with pytest.raises(EmpirError, match="%s is not named DATASET-KIND-RADIUS" % name):
        suites.markdown(str(tmp_path / "mnist"), MNIST)


def test_all_committed_records_have_their_shapes():
    found = [
        (shapes.RESULT, r"(mnist|cifar10|defenses)/.*result\.json|robustness/pgd/.*"),
        (TRAINING, r"cifar10/epochs/.*"),
        (shapes.ROBUSTNESS, r"robustness/[^/]*"),
        (shapes.OUTSIDE, r"robustness/outside/.*"),
        (COMPARISON, r"benchmark/comparison\.json"),
        (ACCOUNT, r"benchmark/account-.*"),
        (THROUGHPUT, r"benchmark/imagenet-.*"),
        (SCALE, r"benchmark/scale\.json"),
        (COST, r"cost\.json"),
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
