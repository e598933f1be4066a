"""Records of robustness/ have the names that say what they are, and are of their images."""

import pytest

from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.report import rows
from tests.support import RESULTS
from tests.support.kept import found, keep_suite
from tests.support.reported import TRIAL


@pytest.fixture
def base(tmp_path):
    """An empty folder robustness/ beside mnist/."""
    (tmp_path / "robustness").mkdir()
    return tmp_path / "robustness"


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


def test_each_record_is_computed_again_from_its_images(base):
    trials = [dict(TRIAL, name="fgsm", attacked=10, broken=7)]
    told = dict(num_examples=10, clean_accuracy=1.0, trials=trials)
    keep_suite(base, "mnist-ensemble-0.1-vote", 0.1, 0.3, **told)
    keep_suite(base, "mnist-baseline-0.1", 0.1, 0.3)  # without its images
    path = str(base / "mnist-ensemble-0.1-vote.npz")
    per_image.write(path, found(3, 10))
    assert rows.check(str(base)) == 1
    per_image.write(path, found(4, 10))
    with pytest.raises(EmpirError, match="vote.npz has as its accuracy under attack 0.4, and the"):
        rows.check(str(base))


def test_the_kept_records_are_those_of_their_images():
    """Those of before images.npz have none; every other has been computed again."""
    base = RESULTS + "/robustness"
    kept = [row for row in rows.suites(base) if row.suite()["data"].get("subset")]
    assert rows.check(base) == len(kept)
