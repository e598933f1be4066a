"""Tables of paired comparisons, and Holm's procedure over each."""

import numpy as np
import pytest

from benchmarks.pages import paired, prose
from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.experiments import EXPERIMENTS
from empir.report.tables import probability
from tests.support.kept import cells, found, keep_suite
from tests.support.reported import TRIAL


@pytest.mark.parametrize(
    "values, rejected",
    [
        ([], []),
        ([0.04], [True]),
        ([0.04, 0.04], [False, False]),
        ([0.04, 0.02], [True, True]),  # 0.02 * 2, then 0.04 * 1
        ([0.02, 0.3, 0.0001], [True, False, True]),
        ([0.02, 0.03, 0.03], [False, False, False]),
    ],
)
def test_holms_procedure_allows_for_all_comparisons(values, rejected):
    assert paired.holm(values) == rejected


@pytest.fixture
def base(tmp_path):
    """Records of 20 images, of which the vote keeps 2, the mean logits 16 and the baseline 17."""
    (tmp_path / "robustness").mkdir()
    kept = {"ensemble-0.1-vote": 2, "ensemble-0.1-mean_logits": 16, "baseline-0.1": 17}
    for name, correct in kept.items():
        trials = [dict(TRIAL, name="fgsm", attacked=20, broken=20 - correct)]
        rule = "vote" if "vote" in name else "mean_logits"
        told = dict(num_examples=20, clean_accuracy=1.0, trials=trials, combine=rule)
        keep_suite(tmp_path / "robustness", f"mnist-{name}", 0.1, correct / 20, **told)
        arrays = dict(found(correct, 20), rule=np.array([rule]))
        per_image.write(str(tmp_path / "robustness" / f"mnist-{name}.npz"), arrays)
    return tmp_path / "robustness"


def test_the_table_says_which_keeps_more_where_the_test_allows_it(base):
    keep_suite(base, "mnist-baseline-l2-1.5", 1.5, 0.4, norm="l2")  # without its images
    table = cells(paired.suites(str(base.parent / "mnist"), EXPERIMENTS["mnist"]))
    assert [row[:3] + row[4:] for row in table[2:]] == [
        ["0.1", "EMPIR, vote", "EMPIR, mean_logits", "0", "14", "0.00012"]
        + ["EMPIR, mean_logits keeps more"],
        ["0.1", "EMPIR, vote", "full-precision baseline", "0", "15", "6.1e-05"]
        + ["full-precision baseline keeps more"],
        ["0.1", "EMPIR, mean_logits", "full-precision baseline", "0", "1", "1", "no difference"],
    ]
    assert probability(0.0) == "below 1e-300"


def test_a_p_value_in_a_sentence_is_of_two_files(base):
    pair = "robustness/mnist-ensemble-0.1-vote.npz~robustness/mnist-baseline-0.1.npz"
    text = "p = %s<!-- " + pair + ":p .0e -->, %s<!-- " + pair + ":second ,d --> images.\n"
    new = text % ("6e-05", "15")
    assert prose.render(text % ("2e-16", "7"), str(base.parent)) == new
    assert prose.differences(text % ("2e-16", "15"), new) == [pair + ":p .0e"]
    with pytest.raises(EmpirError, match="there is no robustness/none.npz"):
        prose.render("1<!-- a~b -->, 1<!-- robustness/none.npz~b.npz:p .0e -->", str(base.parent))


def test_evaluations_of_other_images_are_not_compared(base):
    first = per_image.read(str(base / "mnist-baseline-0.1.npz"))
    arrays = found(3, 20)
    per_image.write(str(base / "other.npz"), dict(arrays, number=np.arange(20)))
    with pytest.raises(EmpirError, match="of the same images"):
        first.against(per_image.read(str(base / "other.npz")))
