"""The tables and the figure of the study, of records that are made up."""

import json
import os

import pytest

from benchmarks.pages import study
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.report.results import load_record
from empir.report.rows import RULES
from tests.support import RESULTS

LOW, FULL = (
    dict(path="p", sha256="s", weight_bits=w, activation_bits=a) for w, a in ((2, 4), (None, None))
)


@pytest.fixture
def results(tmp_path):
    """Results with a record of input gradients per dataset and radius."""
    losses = {
        loss: {"zero_images": [0.25, 0.0], "zero_pixels": [0.5, 0.125]}
        for loss in ("cross_entropy", "double_softmax")
    }
    record = dict(
        members=[LOW, FULL],
        num_examples=10,
        clean=[0.9, 0.8],
        transfer=[[0.1, 0.7], [0.6, 0.2]],
        cosine=[[1.0, 0.5], [0.5, 1.0]],
        sign_cosine=[[1.0, -0.25], [-0.25, 1.0]],
        length_ratio={"5": [0.1, 0.2], "50": [0.5, 0.6], "95": [0.9, 1.5]},
        **losses,
    )
    folder = tmp_path / "study" / "gradients"
    folder.mkdir(parents=True)
    for dataset, radii in study.RADII.items():
        for radius in radii:
            (folder / f"{dataset}-{radius}.json").write_text(json.dumps(record))
    return tmp_path


@pytest.mark.parametrize(
    "table, row",
    [
        (study.transfer, "| w2a4 (1) | 10.0 | 70.0 |"),
        (study.agreement, "| w2a4 (1), fp (2) | 0.500 | -0.250 |"),
        (study.zeros, "| fp (2) | 0.0 | 12.5 | 0.0 | 0.60 | 0.20 to 1.50 |"),
    ],
)
def test_a_table_has_what_the_record_says(results, table, row):
    assert row in table(str(results / "mnist"), EXPERIMENTS["mnist"]).splitlines()


def test_transfer_has_a_table_for_each_radius(results):
    text = study.transfer(str(results / "cifar10"), EXPERIMENTS["cifar10"])
    assert "| PGD at 2/255 on |" in text and "| PGD at 0.1 on |" in text


def test_a_damaged_record_is_named(results):
    path = results / "study" / "gradients" / "mnist-0.1.json"
    path.write_text(json.dumps(dict(json.loads(path.read_text()), transfer=[[2.0]])))
    with pytest.raises(EmpirError, match="mnist-0.1.json: transfer"):
        study.transfer(str(results / "mnist"), EXPERIMENTS["mnist"])


@pytest.mark.parametrize("drawn, maps", [(study.draw, 4), (study.draw_targets, 2)])
def test_a_figure_is_of_the_records_alone(results, tmp_path, drawn, maps):
    folder = str(results / "study" / "gradients") if drawn is study.draw else RESULTS
    shown = list(EXPERIMENTS.values())[:2]
    paths = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in paths:
        study.plot(drawn, folder, shown, str(path))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(drawn(folder, shown).axes) == maps


def test_the_figure_of_targets_has_what_each_rule_and_member_keeps():
    axes, _ = study.draw_targets(RESULTS, [EXPERIMENTS["mnist"], EXPERIMENTS["cifar10"]]).axes
    titles = [label.get_text() for label in axes.get_yticklabels()]
    record = load_record(os.path.join(RESULTS, "mnist", "empir-paper", "pgd"))
    row = 6 * titles.index("PGD, paper")
    told = [record["accuracy"][rule]["adversarial"] for rule in RULES]
    told += [each["adversarial"] for each in record["member_accuracy"]]
    shown = [text.get_text() for text in axes.texts[row : row + 6]]
    assert shown == ["%.1f" % (100 * value) for value in told]
