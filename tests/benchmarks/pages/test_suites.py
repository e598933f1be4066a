"""Tables and the figure of the records of robustness/: by rule, and of equal images only."""

import numpy as np
import pytest

from benchmarks.pages import autoattack, finding, radius, suites
from empir.evaluation import per_image
from empir.experiments import EXPERIMENTS
from tests.support.kept import FIRST, cells, found, keep_outside, keep_pgd, keep_suite
from tests.support.reported import TRIAL


@pytest.fixture
def base(tmp_path):
    """An empty folder robustness/ beside mnist/."""
    (tmp_path / "robustness").mkdir()
    return tmp_path / "robustness"


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
    table = cells(suites.markdown(str(base.parent / "mnist"), EXPERIMENTS["mnist"]))
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
    told = ["1.00", "6.00", "0.70", "-5.00", "10", "1,300"]
    first = ["EMPIR", "vote", "2/255", "1,000, drawn"] + told
    assert found == [first + ["989 of 990"]]
    keep_outside(base, "cifar10-ensemble-2-255-vote", 0.06, transferred=False)
    _, _, *found = cells(autoattack.table(str(base.parent / "cifar10"), EXPERIMENTS["cifar10"]))
    assert found == [first + ["not kept"]]


def test_both_is_of_the_images_that_each_record_left(base):
    """Or of AutoAttack's count, if that is beside the suite's record that is there."""
    name = "cifar10-ensemble-2-255-vote"
    trials = [dict(TRIAL, name="fgsm", attacked=1000, broken=700)]
    keep_suite(base, name, 2 / 255, 0.3, trials=trials, clean_accuracy=1.0)
    keep_outside(base, name, 0.21, suite=0.4)

    def both():
        return cells(autoattack.table(str(base.parent / "cifar10"), EXPERIMENTS["cifar10"]))[2][6:8]

    assert both() == ["", "+9.00"]
    per_image.write(str(base / f"{name}.npz"), found(300, 1000))
    keep_outside(base, name, 0.21, suite=0.4)
    assert both() == ["", "+9.00"]
    numbers = np.arange(1000)
    correct = np.packbits((numbers < 200) | (numbers >= 990)).tobytes().hex()
    keep_outside(base, name, 0.21, suite=0.4, correct=correct)
    assert both() == ["20.00", "+9.00"]


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
