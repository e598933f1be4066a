"""Tables of the paper's attacks: intervals, members, epochs, and what was correct before."""

import json
import os

import numpy as np
import pytest

from benchmarks.pages import paper
from empir.evaluation.scores import score
from empir.experiments import EXPERIMENTS
from empir.report.results import ROWS
from tests.support import RESULTS, ROOT
from tests.support.kept import BASELINE, PAPER, cells, keep_attacks, result

MNIST, CIFAR10 = EXPERIMENTS["mnist"], EXPERIMENTS["cifar10"]
RELEASED = {"model1-w4a2": 64.55, "model2-w2a2": 61.80, "model3-fp": 74.54}


@pytest.fixture
def folder(tmp_path):
    """Records of a whole baseline row and of half an EMPIR row."""
    keep_attacks(tmp_path, "baseline", BASELINE)
    keep_attacks(tmp_path, "empir-paper", PAPER)
    return str(tmp_path)


def test_the_markdown_table_has_intervals_and_differences(folder):
    rows = cells(paper.markdown(folder, MNIST))
    assert {len(row) for row in rows} == {8}
    assert rows[0][2:] == ["clean", "CW", "FGSM", "BIM", "PGD", "average"]
    measured, interval, papers, difference = rows[6:10]
    assert measured == ["EMPIR, protocol paper (1,000/10,000 images)", "measured"] + [
        "**98.89**",
        "-",
        "**67.06**",
        "-",
        "**20.00**",
        "-",
    ]
    low, high = score(0.6706, 10000).interval
    assert interval[1] == "95 % interval" and interval[3] == ""
    assert interval[4] == "%.2f to %.2f" % (low, high)
    assert papers[2:] == ["98.89", "86.73", "67.06", "18.61", "17.51", "47.48"]
    assert difference[2:] == ["+0.00", "-", "+0.00", "-", "+2.49", "-"]
    assert rows[2][7] == "**5.33**" and rows[5][7] == "+0.41"


def test_what_is_not_measured_is_said_not_to_be(tmp_path):
    rows = cells(paper.markdown(str(tmp_path), EXPERIMENTS["imagenet"]))
    assert {len(row) for row in rows} == {8}
    assert rows[2][:3] == ["full-precision baseline, both protocols", "measured"] + [
        "not measured here"
    ]
    assert rows[3] == ["", "paper", "53.23", "9.94", "10.29", "10.81", "10.30", "10.34"]
    assert rows[4][0] == "EMPIR, protocol paper" and rows[5][2:4] == ["55.09", "29.36"]
    assert len(rows) == 6


def test_the_member_table_has_every_rule_and_member(folder):
    rows = cells(paper.member_markdown(folder, MNIST))
    assert {len(row) for row in rows} == {9}
    assert rows[0][2:] == ["vote", "mean_logits", "mean_probs"] + [
        "model1-w2a4",
        "model2-w2a4",
        "model3-fp",
        "mean L2",
    ]
    assert rows[2] == ["clean", "", "98.89", "97.00", "96.00", "90.00", "90.00", "90.00", "0"]
    assert rows[3] == ["EMPIR, protocol paper", "FGSM"] + [
        "67.06",
        "21.00",
        "22.00",
        "50.00",
        "25.00",
        "12.50",
        "5.67",
    ]
    assert [row[1] for row in rows[3:]] == ["FGSM", "PGD"]


def keep_epochs(folder, **accuracies):
    """Write epochs/<member>.json below a folder from fractions after each epoch."""
    os.makedirs(os.path.join(str(folder), "epochs"))
    for name, values in accuracies.items():
        path = os.path.join(str(folder), "epochs", name.replace("_", "-") + ".json")
        with open(path, "w") as file:
            json.dump({"history": [{"test_accuracy": value} for value in values]}, file)


def test_the_closest_epoch_has_the_least_sum_of_distances(tmp_path):
    assert paper.released_members("cifar10") == RELEASED
    assert paper.released_members("mnist") == {}
    keep_epochs(
        tmp_path,
        model1_w4a2=[0.5, 0.6, 0.64, 0.65, 0.66, 0.67, 0.68],
        model2_w2a2=[0.5, 0.6, 0.62, 0.62, 0.62, 0.62, 0.62],
        model3_fp=[0.5, 0.6, 0.74, 0.75, 0.75, 0.75, 0.75],
    )
    accuracies = paper.epoch_accuracies(str(tmp_path), CIFAR10)
    assert accuracies["model2-w2a2"][:2] == [50, 60]
    distances = paper.epoch_distances(accuracies, RELEASED)
    assert distances[:3] == pytest.approx([14.55 + 11.8 + 24.54, 20.89, 0.55 + 0.2 + 0.54])
    rows = cells(paper.epochs_markdown(str(tmp_path), CIFAR10))
    assert rows[0] == ["epochs", "model1-w4a2", "model2-w2a2", "model3-fp", "sum of distances"]
    assert [row[0] for row in rows[2:]] == ["**4**", "5", "6", "the authors' members"]
    assert rows[2] == ["**4**", "**65.00**", "**62.00**", "**75.00**", "**1.11**"]
    assert rows[-1][1:] == ["64.55", "61.80", "74.54", ""]


def test_the_member_table_has_the_released_members_where_they_are_known(tmp_path):
    keep_attacks(tmp_path, "empir-paper", PAPER)
    rows = cells(paper.member_markdown(str(tmp_path), CIFAR10))
    assert {len(row) for row in rows} == {9}
    assert rows[3][:3] == ["clean", "the authors' members", "72.56"]
    assert rows[3][5:8] == ["64.55", "61.80", "74.54"]


def test_the_shipped_members_are_those_of_the_closest_number_of_epochs():
    folder = os.path.join(RESULTS, "cifar10")
    accuracies = paper.epoch_accuracies(folder, CIFAR10)
    distances = paper.epoch_distances(accuracies, RELEASED)
    assert max(accuracies["model3-fp"]) >= 74
    for name, values in accuracies.items():
        path = os.path.join(ROOT, "checkpoints", "cifar10", name, "training.json")
        with open(path) as file:
            training = json.load(file)
        assert training["epochs"] == 1 + distances.index(min(distances))
        # The long training went through the same weights.
        shipped = training["history"][-1]["test_accuracy"]
        assert 100 * shipped == values[training["epochs"] - 1]
        assert name != "model3-fp" or shipped >= 0.74


def test_what_was_correct_before_the_attack_too_is_told_apart(tmp_path):
    keep_attacks(tmp_path, "baseline", {"pgd": dict(result(0.5, 0.5, 4), combine="mean_logits")})
    label = np.array([1, 2, 3, 4])
    np.savez(
        str(tmp_path / "baseline" / "pgd" / "examples.npz"),
        label=label,
        clean_mean_logits=np.array([1, 2, 3, 0]),
        adversarial_mean_logits=np.array([1, 0, 0, 4]),
        clean_vote=label,
        adversarial_vote=label,
    )
    after, both = paper.still_correct(str(tmp_path), ROWS[0], "pgd")
    assert (after.mean(), both.mean()) == (0.5, 0.25)
    rows = cells(paper.survivors_markdown(str(tmp_path), CIFAR10))
    assert rows[2][1:] == ["after the attack", "-", "-", "-", "50.00"]
    assert rows[3][1:] == ["before and after it", "-", "-", "-", "25.00"]


def test_the_cost_table_is_per_hundred_images(folder):
    lines = paper.cost_markdown(folder, MNIST).split("\n")
    assert len(lines) == 2 + len(BASELINE) + len(PAPER)
    assert "| EMPIR, protocol paper | FGSM | 0.2 | 4.20 | 512 |" in lines
    assert "| full-precision baseline, both protocols | CW | 0.2 | 42.00 | 512 |" in lines
