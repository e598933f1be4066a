"""Tables and the figure of the records of robustness/: by rule, of equal images only, checked."""

import json

import numpy as np
import pytest

from benchmarks.pages import autoattack, finding, radius, render
from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.experiments import EXPERIMENTS
from empir.models.ensemble import DECISION_RULES
from empir.report import robustness, rows
from empir.report.results import RESULTS
from tests.support.reported import NETWORK, TRIAL, record

FIRST, DRAWN = {"sha256": "f"}, {"sha256": "d", "subset": "stratified", "subset_seed": 5}
TRIALS = [dict(TRIAL, name=name, accuracy=0.5) for name in ("noise", "fgsm", "apgd-ce")]


@pytest.fixture
def base(tmp_path):
    """An empty folder robustness/ beside mnist/."""
    (tmp_path / "robustness").mkdir()
    return tmp_path / "robustness"


def keep(base, name, record):
    path = base / (name + ".json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))


def keep_suite(base, name, eps, accuracy, data=DRAWN, **more):
    rule = name.rpartition("-")[2]
    rule = rule if rule in DECISION_RULES else "mean_logits"
    members = [NETWORK] * (1 if "baseline" in name else 2)
    told = dict(eps=eps, worst_case_accuracy=accuracy, combine=rule, members=members, data=data)
    keep(base, name, record(**dict(dict(told, trials=TRIALS), **more)))


def keep_pgd(base, name, accuracies, data=DRAWN, **more):
    """Accuracies: adversarial, by rule; the clean ones are 0.9 under each."""
    accuracy = {rule: dict(clean=0.9, adversarial=value) for rule, value in accuracies.items()}
    told = dict(accuracy=accuracy, data=data, num_examples=1000, seed=7, combine="mean_logits")
    keep(base, "pgd/" + name, dict(told, **more))


def keep_outside(base, name, accuracy, images=1000):
    told = dict(images=images, num_examples=1000, data=DRAWN, stronger_by=-5.0)
    told.update(transferred={"images": 990, "adversarial": 989})
    attacks = [{"seconds": 1000.2}, {"seconds": 300.3}]
    keep(base, "outside/" + name, dict(told, autoattack=dict(accuracy=accuracy, attacks=attacks)))


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")]


def test_the_summary_has_a_row_per_record_with_what_is_of_its_images(base):
    keep_suite(base, "mnist-ensemble-0.3-mean_logits", 0.3, 0.02)
    keep_suite(base, "mnist-ensemble-0.3-vote", 0.3, 0.01)
    keep_suite(base, "mnist-baseline-0.3", 0.3, 0.03, data=FIRST, verdicts=[])
    keep_suite(base, "mnist-pgd-2-255-vote", 2 / 255, 0.04)
    keep_suite(base, "mnist-ensemble-l2-0.3-vote", 0.3, 0.06, norm="l2")
    keep_suite(base, "cifar10-ensemble-0.1-vote", 0.1, 0.05)
    keep_pgd(base, "mnist-ensemble-0.3-paper", {"vote": 0.11, "mean_logits": 0.12})
    keep_pgd(base, "mnist-ensemble-0.3-whitebox", {"vote": 0.13, "mean_logits": 0.14}, data=FIRST)
    keep_pgd(base, "mnist-baseline-0.3-whitebox", {"mean_logits": 0.15}, data=FIRST)
    keep_outside(base, "mnist-ensemble-0.3-vote", 0.06)
    keep_outside(base, "mnist-ensemble-0.3-mean_logits", 0.07, images=999)
    table = cells(robustness.summary(str(base.parent / "mnist"), EXPERIMENTS["mnist"]))
    found = [dict(zip(table[0], row)) for row in table[2:]]
    heads = ["network", "decision rule", "radius", "images", "the paper's PGD"]
    assert [[row[head] for head in heads] for row in found] == [
        ["EMPIR", "vote", "0.3", "1,000, drawn", "17.51"],
        ["EMPIR", "mean_logits", "0.3", "1,000, drawn", ""],
        ["full-precision baseline", "", "0.3", "1,000, first", "0.77"],
        ["EMPIR, members trained on PGD", "vote", "2/255", "1,000, drawn", ""],
        ["EMPIR", "vote", "L2 0.3", "1,000, drawn", ""],
    ]
    heads = ["PGD, paper", "PGD, whitebox", "adaptive suite", "AutoAttack"]
    assert [[row[head] for head in heads] for row in found] == [
        ["11.00", "", "**1.00**", "6.00"],
        ["12.00", "", "**2.00**", ""],
        ["15.00", "15.00", "**3.00**", ""],
        ["", "", "**4.00**", ""],
        ["", "", "**6.00**", ""],
    ]
    assert [row["failed checks"] for row in found] == ["c", "c", "-", "c", "c"]


def test_the_suite_and_autoattack_stand_side_by_side_where_both_attacked_the_same_images(base):
    keep_suite(base, "cifar10-ensemble-2-255-vote", 2 / 255, 0.01)
    keep_outside(base, "cifar10-ensemble-2-255-vote", 0.06)
    keep_suite(base, "cifar10-ensemble-2-255-mean_logits", 2 / 255, 0.02)
    keep_outside(base, "cifar10-ensemble-2-255-mean_logits", 0.07, images=999)
    keep_suite(base, "cifar10-baseline-2-255", 2 / 255, 0.03, data=FIRST)
    keep_outside(base, "cifar10-baseline-2-255", 0.08)
    keep_suite(base, "cifar10-baseline-4-255", 4 / 255, 0.04)
    keep_outside(base, "cifar10-ensemble-8-255-vote", 0.09)
    _, _, *found = cells(autoattack.table(str(base.parent / "cifar10"), EXPERIMENTS["cifar10"]))
    told = ["1.00", "6.00", "-5.00", "10", "1,300", "989 of 990"]
    assert found == [["EMPIR", "vote", "2/255", "1,000, drawn"] + told]


def test_the_readmes_table_leaves_cells_without_a_record_empty(base):
    for dataset, radii in finding.SHOWN:
        for each in radii:
            keep_pgd(base, f"{dataset}-ensemble-{each}-paper", dict(vote=0.2, mean_logits=0.3))
    keep_suite(base, "mnist-ensemble-0.1-vote", 0.1, 0.0, clean_accuracy=0.95)
    keep_suite(base, "mnist-baseline-0.1", 0.1, 0.25)
    keep_suite(base, "mnist-baseline-0.3", 0.3, 0.25, data=FIRST)
    caption, _, table = finding.table(str(base.parent / "all"), None).partition("\n\n")
    assert "by the seed 5. The attacks' seed is 7, 1234." in caption
    first, second, third, *others = cells(table)[2:]
    told = ["1,000, drawn", "95.00", "20.00", "", "**0.00**", "0.11 to 0.99", "", "25.00"]
    assert first == ["MNIST, 0.1", "`vote`"] + told
    told = ["1,000, drawn", "90.00", "30.00", "", "", "", "", "25.00"]
    assert second == ["MNIST, 0.1", "`mean_logits`"] + told
    assert third[0] == "MNIST, 0.3" and third[-1] == ""  # the baseline's images are others
    assert [row[0] for row in others[1::2]] == ["CIFAR-10, 2/255", "CIFAR-10, 8/255"]


@pytest.mark.parametrize(
    "name, says",
    [
        ("mnist-other-0.1-vote", "is not named DATASET-KIND-RADIUS"),
        ("mnist-ensemble", "is not named DATASET-KIND-RADIUS"),
        ("mnist-ensemble-0.1", "is of the rule 'mean_logits': name it so"),
        ("mnist-baseline-l2-0.1", "is of the norm 'linf': name it so"),
    ],
)
def test_a_record_by_another_name_is_an_error(base, name, says):
    keep_suite(base, name, 0.1, 0.5)
    with pytest.raises(EmpirError, match=says):
        rows.suites(str(base))


def found(correct, total):
    """What `per_image` writes of one attack, after which so many of all images are correct."""
    label = np.zeros(total, np.int64)
    hit = np.arange(total) >= correct
    arrays = {f"clean_{rule}": label for rule in DECISION_RULES}
    arrays.update(rule=np.array(["vote"]), attacks=np.array(["fgsm"]), number=label, label=label)
    arrays.update(clean_members=label[:, None], members=label[:, None], decision=hit.astype(int))
    arrays.update(first=hit - 1, l2=label * 0.1, linf=label * 0.1)
    every = np.ones((1, total), bool)
    return dict(arrays, attacked=every, succeeded=hit[None], counted=hit[None])


def test_each_record_is_computed_again_from_its_images(base, monkeypatch):
    trials = [dict(TRIAL, name="fgsm", attacked=10, broken=7)]
    told = dict(num_examples=10, clean_accuracy=1.0, trials=trials)
    keep_suite(base, "mnist-ensemble-0.1-vote", 0.1, 0.3, **told)
    keep_suite(base, "mnist-baseline-0.1", 0.1, 0.3)  # without its images
    path = str(base / "mnist-ensemble-0.1-vote.npz")
    per_image.write(path, found(3, 10))
    assert rows.check(str(base)) == 1
    per_image.write(path, found(4, 10))
    monkeypatch.setattr(render, "RESULTS", str(base.parent))
    with pytest.raises(EmpirError, match="vote.npz has as its accuracy under attack 0.4, and the"):
        render.main(["--check"], str(base.parent))


def test_the_kept_records_are_those_of_their_images():
    """Those of before images.npz have none; every other has been computed again."""
    base = RESULTS + "/robustness"
    kept = [row for row in rows.suites(base) if row.suite()["data"].get("subset")]
    assert rows.check(base) == len(kept)


@pytest.mark.slow
def test_the_figure_shows_what_the_records_say(base):
    for rule in ("vote", "mean_logits"):
        for eps in (0.2, 0.1):
            curve = {"radius": [[0.0, 0.9], [eps, 1 - eps]]} if rule == "vote" else {}
            share = 0.5 - eps if rule == "vote" else 0.5
            keep_suite(base, f"mnist-ensemble-{eps}-{rule}", eps, share, curves=curve)
    keep_suite(base, "mnist-baseline-0.1", 0.1, 0.25, curves={})
    keep_suite(base, "mnist-pgd-0.3-vote", 0.3, 0.7, curves={})
    keep_suite(base, "mnist-baseline-l2-1.5", 1.5, 0.75, curves={}, norm="l2")  # another ball
    told = dict(attack={"eps": 0.2}, adversarial_accuracy=0.6)
    keep_pgd(base, "mnist-ensemble-0.2-paper", {}, **told)
    keep_pgd(base, "mnist-ensemble-0.2-whitebox", {}, **told)
    assert radius.points(str(base), EXPERIMENTS["mnist"]) == {
        "vote": [(0.1, 40.0), (0.2, 30.0)],
        "mean_logits": [(0.1, 50.0), (0.2, 50.0)],
        "baseline": [(0.1, 25.0)],
        "curve": [(0.0, 90.0), (0.2, 80.0)],
        "paper": [(0.2, 60.0)],
    }
    drawn = []
    for name in ("a.svg", "b.svg"):
        shown = [EXPERIMENTS[dataset] for dataset in ("mnist", "cifar10")]
        radius.plot(str(base), shown, str(base.parent / name))
        drawn.append((base.parent / name).read_bytes())
    assert drawn[0] == drawn[1] and b"<svg" in drawn[0]
