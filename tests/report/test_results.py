"""Records to figures: intervals, rows, the paper's numbers, and the table on a terminal."""

import os
import re

import pytest

from empir.errors import EmpirError
from empir.evaluation.scores import score
from empir.experiments import EXPERIMENTS, TABLE_ATTACKS
from empir.report import results, tables
from empir.report.results import ROWS
from tests.support.kept import BASELINE, PAPER, keep_attacks

MNIST = EXPERIMENTS["mnist"]


@pytest.fixture
def folder(tmp_path):
    """Records of a whole baseline row and of half an EMPIR row."""
    keep_attacks(tmp_path, "baseline", BASELINE)
    keep_attacks(tmp_path, "empir-paper", PAPER)
    return str(tmp_path)


@pytest.mark.parametrize(
    "hits, examples, low, high",
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # Closed forms: z^2 / (n + z^2) above no hits; 1/2 -+ z / (2 sqrt(n + z^2)) around half.
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
    ],
)
def test_wilson_intervals_are_the_published_ones(hits, examples, low, high):
    interval = score(hits / examples, examples).interval
    # The sources print four digits of a fraction, two of a percentage.
    assert interval == pytest.approx((100 * low, 100 * high), abs=5.1e-3)
    assert 0.0 <= interval[0] < interval[1] <= 100.0


@pytest.mark.parametrize("fraction, examples", [(0.5, 0), (1.1, 10), (-0.1, 10), (50.0, 10)])
def test_what_is_no_proportion_has_no_interval(fraction, examples):
    with pytest.raises(EmpirError):
        score(fraction, examples)


def test_a_score_is_in_percent():
    half = score(0.5, 10)
    assert (half.percent, half.examples) == (50.0, 10)
    assert half.interval == pytest.approx((23.66, 76.34), abs=5.1e-3)  # two digits, see above


def test_a_row_has_the_finished_attacks_only(folder):
    baseline, paper, whitebox = ROWS
    assert set(results.row_records(folder, baseline)) == set(TABLE_ATTACKS)
    assert results.row_records(folder, paper) == PAPER
    assert results.row_records(folder, whitebox) == {}
    assert results.load_record(os.path.join(folder, "nowhere")) is None


def test_clean_accuracy_is_that_of_the_most_images():
    scores = results.row_scores(BASELINE)
    assert set(scores) == {"clean", "cw", "fgsm", "bim", "pgd"}
    assert scores["clean"] == score(0.9887, 10000)
    assert scores["cw"] == score(0.03, 1000)
    assert results.row_scores({}) == {}


def test_the_average_is_the_mean_of_the_four_attacks():
    scores = results.row_scores(BASELINE)
    assert results.average(scores) == pytest.approx((3 + 15.32 + 1 + 2) / 4)
    del scores["bim"]
    assert results.average(scores) is None


@pytest.mark.parametrize("dataset, gain", [("mnist", 42.6), ("cifar10", 15.2), ("imagenet", 10.5)])
def test_the_papers_figures_agree_with_each_other(dataset, gain):
    rows = {model: results.paper_row(dataset, model) for model in ("baseline", "empir")}
    for row in rows.values():
        assert set(row) == set(tables.COLUMNS)
        mean = sum(row[attack] for attack in TABLE_ATTACKS) / 4
        assert row["average"] == pytest.approx(mean, abs=0.01)  # printed with two digits
    # The abstract's gains are printed with one digit.
    assert rows["empir"]["average"] - rows["baseline"]["average"] == pytest.approx(gain, abs=0.05)


def test_the_terminal_table_has_measured_and_reported_side_by_side(folder):
    lines = tables.terminal(folder, MNIST).splitlines()
    cells = [re.split(r"  +", line.strip()) for line in lines]
    assert cells[0][0].startswith("MNIST MNISTconv")
    assert cells[0][1:] == ["clean", "CW", "FGSM", "BIM", "PGD", "average"]
    assert set(lines[1]) == {"-"}
    assert cells[2] == [
        "full-precision baseline, both protocols",
        "98.87 (98.87)",
        "3.00 (3.69)",
        "15.32 (14.32)",
        "1.00 (0.90)",
        "2.00 (0.77)",
        "5.33 (4.92)",
    ]
    assert cells[3] == ["EMPIR, protocol paper"] + [
        "98.89 (98.89)",
        "-",
        "67.06 (67.06)",
        "-",
        "20.00 (17.51)",
        "-",
    ]
    assert lines[4] == ""
    assert lines[5] == (
        "clean, FGSM: 10000 test images; CW, BIM, PGD: 1000 test images. "
        "The paper's figures are for all 10,000."
    )
    assert len(lines) == 6
    assert len({len(line) for line in lines[:4]}) == 1  # aligned
