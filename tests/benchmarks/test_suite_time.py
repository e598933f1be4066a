"""The suite's time beside AutoAttack's: what is run, what is measured again, and the table."""

import json

import pytest

from benchmarks import suite_time
from benchmarks.pages import suite_time as report
from benchmarks.pages.inference import MISSING
from empir.errors import EmpirError
from tests.support.kept import cells, keep_suite
from tests.support.scripts import assert_refused, run_module

FOUND = {
    "suite": {"seconds": 30.0, "accuracy": 0.1},
    "autoattack": {"seconds": 120.0, "accuracy": 0.11},
    "equal": 12.0,
}


def test_a_row_is_attacked_as_its_record_says():
    words = suite_time._networks("cifar10-ensemble-2-255-vote")
    assert words == [
        "--dataset=cifar10",
        "--members=w4a2:checkpoints/cifar10/model1-w4a2,w2a2:checkpoints/cifar10/model2-w2a2,"
        "fp:checkpoints/cifar10/model3-fp",
        "--eps=0.00784314",
        "--norm=linf",
        "--combine=vote",
    ]
    single = suite_time._networks("mnist-baseline-0.1")
    assert single[1] == "--members=fp:checkpoints/mnist/model3-fp" and len(single) == 4


def test_rows_of_another_machine_or_number_of_images_are_not_gone_on_with(tmp_path):
    now = dict(processor="this one", versions={}, images=200)
    path = tmp_path / "suite_time.json"
    path.write_text(json.dumps(dict(now, rows={"mnist-baseline-0.1": FOUND})))
    assert list(suite_time._rows(str(path), now)) == ["mnist-baseline-0.1"]
    for key, value in (("processor", "another"), ("images", 100)):
        with pytest.raises(EmpirError, match=f"{key} .*remove it"):
            suite_time._rows(str(path), dict(now, **{key: value}))


def test_the_table_is_of_the_record_or_says_that_there_is_none(tmp_path):
    assert report.markdown(str(tmp_path / "all"), None) == MISSING
    for folder in ("benchmark", "robustness"):
        (tmp_path / folder).mkdir()
    keep_suite(tmp_path / "robustness", "mnist-ensemble-0.1-vote", 0.1, 0.2)
    record = dict(processor="this one", images=200, rows={"mnist-ensemble-0.1-vote": FOUND})
    (tmp_path / "benchmark" / "suite_time.json").write_text(json.dumps(record))
    _, _, row = cells(report.markdown(str(tmp_path / "all"), None))
    told = ["EMPIR, vote", "MNIST, 0.1", "10.00", "11.00", "30", "12", "120", "0.25", "0.10"]
    assert row == told
    record["rows"]["mnist-ensemble-0.1-vote"] = dict(FOUND, equal=None)
    _, _, row = cells(report.table(record, str(tmp_path / "robustness")))
    assert row == told[:5] + ["never", "120", "0.25", "never"]


@pytest.mark.parametrize("accuracy, seconds", [(0.5, 3.0), (0.2, 7.0), (0.25, 7.0), (0.1, None)])
def test_the_seconds_until_equal_end_with_the_attack_that_leaves_as_little(accuracy, seconds):
    left = [(3.0, 0.4), (4.0, 0.2), (5.0, 0.2)]
    trials = [{"seconds": spent, "worst_case": worst} for spent, worst in left]
    assert suite_time.seconds_until(trials, accuracy) == seconds


@pytest.mark.slow
def test_bad_input_is_one_line_before_anything_is_measured():
    assert_refused(run_module("benchmarks.suite_time", "--rows=mnist"), "--rows=mnist")
