"""Records to figures: intervals, rows, the paper's numbers, and the tables made of them."""

import json
import os
import re

import numpy as np
import pytest

from benchmarks.pages import defenses, render
from empir.errors import EmpirError
from empir.evaluation.scores import score
from empir.experiments import EXPERIMENTS, TABLE_ATTACKS
from empir.report import results, tables
from empir.report.results import RESULTS, ROWS
from tests.support import ROOT

MNIST = EXPERIMENTS["mnist"]


def record(clean, adversarial, examples=10000, members=(0.5, 0.25, 0.125), mean_l2=1.5):
    """What the tables read of a result.json."""
    return {
        "num_examples": examples,
        "clean_accuracy": clean,
        "adversarial_accuracy": adversarial,
        "accuracy": {
            "vote": {"clean": clean, "adversarial": adversarial},
            "mean_logits": {"clean": 0.97, "adversarial": 0.21},
            "mean_probs": {"clean": 0.96, "adversarial": 0.22},
        },
        "member_accuracy": [{"clean": 0.9, "adversarial": m} for m in members],
        "mean_l2": mean_l2,
        "seconds": {"build": 0.25, "clean": 3.0, "attack": 420.0, "total": 425.0},
        "peak_memory_mb": 512.3,
    }


def keep(folder, row, records):
    """Write records as evaluations do: folder/<row>/<attack>/result.json."""
    for attack, content in records.items():
        path = os.path.join(str(folder), row, attack)
        os.makedirs(path)
        with open(os.path.join(path, "result.json"), "w") as file:
            json.dump(content, file)


BASELINE = {
    "cw": record(0.99, 0.03, 1000),
    "fgsm": record(0.9887, 0.1532),
    "bim": record(0.99, 0.01, 1000),
    "pgd": record(0.99, 0.02, 1000),
}
PAPER = {"fgsm": record(0.9889, 0.6706, mean_l2=5.6651), "pgd": record(0.98, 0.2, 1000)}


@pytest.fixture
def folder(tmp_path):
    """Records of a whole baseline row and of half an EMPIR row."""
    keep(tmp_path, "baseline", BASELINE)
    keep(tmp_path, "empir-paper", PAPER)
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


def markdown_rows(text):
    """Cells of a Markdown table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_the_markdown_table_has_intervals_and_differences(folder):
    rows = markdown_rows(tables.markdown(folder, MNIST))
    assert {len(row) for row in rows} == {8}
    assert rows[0][2:] == ["clean", "CW", "FGSM", "BIM", "PGD", "average"]
    measured, interval, paper, difference = rows[6:10]
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
    assert paper[2:] == ["98.89", "86.73", "67.06", "18.61", "17.51", "47.48"]
    assert difference[2:] == ["+0.00", "-", "+0.00", "-", "+2.49", "-"]
    assert rows[2][7] == "**5.33**" and rows[5][7] == "+0.41"


def test_what_is_not_measured_is_said_not_to_be(tmp_path):
    rows = markdown_rows(tables.markdown(str(tmp_path), EXPERIMENTS["imagenet"]))
    assert {len(row) for row in rows} == {8}
    assert rows[2][:3] == ["full-precision baseline, both protocols", "measured"] + [
        "not measured here"
    ]
    assert rows[3] == ["", "paper", "53.23", "9.94", "10.29", "10.81", "10.30", "10.34"]
    assert rows[4][0] == "EMPIR, protocol paper" and rows[5][2:4] == ["55.09", "29.36"]
    assert len(rows) == 6


def test_the_member_table_has_every_rule_and_member(folder):
    rows = markdown_rows(tables.member_markdown(folder, MNIST))
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


@pytest.fixture(params=["README.md", "docs/mnist.md", "docs/more/mnist.md"])
def page(request, tmp_path, monkeypatch):
    """A page with the markers of two tables, beside records; returns its path."""
    keep(tmp_path / "mnist", "baseline", BASELINE)
    (tmp_path / "README.md").write_text("No table.\n")
    path = tmp_path / request.param
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "before\n<!-- results:mnist -->\nold\n<!-- end -->\nbetween\n"
        "<!-- members:mnist -->\n<!-- end -->\nafter\n"
    )
    monkeypatch.setattr(render, "RESULTS", str(tmp_path))
    return path


def test_the_report_is_written_between_the_markers_and_checked(page, tmp_path, caplog):
    root, old = str(tmp_path), page.read_text()
    assert render.main(["--check"], root) == 1 and page.read_text() == old
    says = "%s is not of the records in results:mnist, members:mnist: run"
    assert says % page.relative_to(tmp_path) in caplog.text
    assert render.main([], root) == 0
    new = page.read_text()
    table = tables.markdown(str(tmp_path / "mnist"), MNIST)
    assert new.startswith("before\n<!-- results:mnist -->\n%s\n<!-- end -->\nbetween\n" % table)
    assert new.endswith("<!-- end -->\nafter\n") and "old" not in new
    assert render.main(["--check"], root) == 0 and page.read_text() == new


def test_the_report_takes_no_other_argument(page, tmp_path):
    old = page.read_text()
    with pytest.raises(EmpirError):
        render.main(["--chek"], str(tmp_path))
    assert page.read_text() == old


def test_the_pages_tables_are_those_of_the_records():
    found = set()
    for path in render.pages():
        with open(path, encoding="utf8") as file:
            found |= {match.group(1) for match in render.PATTERN.finditer(file.read())}
    assert found == set(render.TABLES), "a kind of table stands on no page"
    assert os.path.isdir(os.path.join(RESULTS, "mnist"))
    assert render.main(["--check"]) == 0


CIFAR10 = EXPERIMENTS["cifar10"]
RELEASED = {"model1-w4a2": 64.55, "model2-w2a2": 61.80, "model3-fp": 74.54}


def keep_epochs(folder, **accuracies):
    """Write epochs/<member>.json below a folder from fractions after each epoch."""
    os.makedirs(os.path.join(str(folder), "epochs"))
    for name, values in accuracies.items():
        path = os.path.join(str(folder), "epochs", name.replace("_", "-") + ".json")
        with open(path, "w") as file:
            json.dump({"history": [{"test_accuracy": value} for value in values]}, file)


def test_the_closest_epoch_has_the_least_sum_of_distances(tmp_path):
    assert results.released_members("cifar10") == RELEASED
    assert results.released_members("mnist") == {}
    keep_epochs(
        tmp_path,
        model1_w4a2=[0.5, 0.6, 0.64, 0.65, 0.66, 0.67, 0.68],
        model2_w2a2=[0.5, 0.6, 0.62, 0.62, 0.62, 0.62, 0.62],
        model3_fp=[0.5, 0.6, 0.74, 0.75, 0.75, 0.75, 0.75],
    )
    accuracies = results.epoch_accuracies(str(tmp_path), CIFAR10)
    assert accuracies["model2-w2a2"][:2] == [50, 60]
    distances = results.epoch_distances(accuracies, RELEASED)
    assert distances[:3] == pytest.approx([14.55 + 11.8 + 24.54, 20.89, 0.55 + 0.2 + 0.54])
    rows = markdown_rows(tables.epochs_markdown(str(tmp_path), CIFAR10))
    assert rows[0] == ["epochs", "model1-w4a2", "model2-w2a2", "model3-fp", "sum of distances"]
    assert [row[0] for row in rows[2:]] == ["**4**", "5", "6", "the authors' members"]
    assert rows[2] == ["**4**", "**65.00**", "**62.00**", "**75.00**", "**1.11**"]
    assert rows[-1][1:] == ["64.55", "61.80", "74.54", ""]


def test_the_member_table_has_the_released_members_where_they_are_known(tmp_path):
    keep(tmp_path, "empir-paper", PAPER)
    rows = markdown_rows(tables.member_markdown(str(tmp_path), CIFAR10))
    assert {len(row) for row in rows} == {9}
    assert rows[3][:3] == ["clean", "the authors' members", "72.56"]
    assert rows[3][5:8] == ["64.55", "61.80", "74.54"]


def test_the_shipped_members_are_those_of_the_closest_number_of_epochs():
    folder = os.path.join(RESULTS, "cifar10")
    accuracies = results.epoch_accuracies(folder, CIFAR10)
    distances = results.epoch_distances(accuracies, RELEASED)
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
    keep(tmp_path, "baseline", {"pgd": dict(record(0.5, 0.5, 4), combine="mean_logits")})
    label = np.array([1, 2, 3, 4])
    np.savez(
        str(tmp_path / "baseline" / "pgd" / "examples.npz"),
        label=label,
        clean_mean_logits=np.array([1, 2, 3, 0]),
        adversarial_mean_logits=np.array([1, 0, 0, 4]),
        clean_vote=label,
        adversarial_vote=label,
    )
    after, both = results.still_correct(str(tmp_path), ROWS[0], "pgd")
    assert (after.mean(), both.mean()) == (0.5, 0.25)
    rows = markdown_rows(tables.survivors_markdown(str(tmp_path), CIFAR10))
    assert rows[2][1:] == ["after the attack", "-", "-", "-", "50.00"]
    assert rows[3][1:] == ["before and after it", "-", "-", "-", "25.00"]


def test_the_cost_table_is_per_hundred_images(folder):
    lines = tables.cost_markdown(folder, MNIST).split("\n")
    assert len(lines) == 2 + len(BASELINE) + len(PAPER)
    assert "| EMPIR, protocol paper | FGSM | 0.2 | 4.20 | 512 |" in lines
    assert "| full-precision baseline, both protocols | CW | 0.2 | 42.00 | 512 |" in lines


def test_the_speed_table_has_what_was_measured(tmp_path):
    os.makedirs(str(tmp_path / "benchmark"))
    measured = dict(batch_size=100, images_per_second=6.25, gflops=150.4, gemm_gflops=75.6)
    with open(str(tmp_path / "benchmark" / "imagenet-fgsm.json"), "w") as file:
        json.dump(dict(measured, peak_memory_mb=7000.4), file)
    rows = markdown_rows(tables.speed_markdown(str(tmp_path / "imagenet"), EXPERIMENTS["imagenet"]))
    assert rows[2:] == [["FGSM", "100", "6.25", "2.7", "150", "76", "7000"]]
    assert {len(row) for row in rows} == {7}


def test_defenses_are_rows_of_one_network_and_of_ensembles(tmp_path):
    measured = {"num_examples": 500, "clean_accuracy": 0.99, "adversarial_accuracy": 0.25}
    for row in ROWS:
        for attack in TABLE_ATTACKS[: 4 if row.model == "empir" else 3]:
            folder = tmp_path / "defenses" / "mnist" / "pgd" / row.folder / attack
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps(measured))
    table = defenses.markdown(str(tmp_path / "mnist"), EXPERIMENTS["mnist"])
    assert table.split("\n")[2:] == [
        "| PGD adversarial training | one network | 99.0 | 25.0 | 25.0 | 25.0 | - | - |",
        "|  | EMPIR, paper | 99.0 | 25.0 | 25.0 | 25.0 | 25.0 | 25.0 |",
        "|  | EMPIR, whitebox | 99.0 | 25.0 | 25.0 | 25.0 | 25.0 | 25.0 |",
    ]
