"""`import empir`: ensembles and datasets in a line each, and predictions without a session."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import softmax

import empir
from empir.errors import DataError, EmpirError
from empir.evaluation.specs import AttackSpec
from empir.evaluation.views import ViewSpec
from empir.models.ensemble import DECISION_RULES
from tests.support import MEMBERS, ROOT
from tests.support.released import save_members


@pytest.fixture(scope="module")
def data():
    """The first twelve of the embedded images."""
    return empir.load_dataset("mnist", sample=True).first(12)


@pytest.fixture(scope="module")
def shipped():
    """MNIST's members of this repository, under the vote."""
    return empir.load_ensemble("mnist", combine="vote")


def test_importing_the_package_loads_no_tensorflow():
    code = "import sys, empir; assert 'load_ensemble' in dir(empir); assert not hasattr(empir, 'x')"
    code += "; assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules), 'it is loaded'"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.slow
def test_the_shipped_ensemble_predicts(shipped, data):
    found = shipped.predict(data.images, batch_size=5)
    assert (found.decision == data.labels).all()
    assert found.members.shape == (12, 3) and found.logits.shape == (12, 3, 10)
    np.testing.assert_array_equal(found.members, found.logits.argmax(axis=2))
    types = (found.decision.dtype, found.members.dtype, found.probabilities.dtype)
    assert types == (np.int64, np.int64, np.float32)
    # Sums of ten float32 numbers.
    np.testing.assert_allclose(found.probabilities.sum(axis=1), np.ones(12), rtol=1e-5)
    whole = shipped.predict(data.images)
    np.testing.assert_array_equal(whole.decision, found.decision)
    # The batch decides the order of float32 sums.
    np.testing.assert_allclose(whole.logits, found.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("combine", DECISION_RULES)
def test_probabilities_are_of_what_the_rule_decides_by(combine, data, tmp_path):
    save_members(str(tmp_path))
    paths = f"w2a4:{tmp_path}/model1,fp:{tmp_path}/model3"
    for members in (paths, paths.split(",")):
        found = empir.load_ensemble("mnist", members, combine).predict(data.images)
        if combine == "mean_probs":
            expected = softmax(found.logits, axis=2).mean(axis=1)
        else:
            expected = softmax(found.logits.mean(axis=1), axis=1)
        # Float32 exponentials of logits of some hundreds.
        np.testing.assert_allclose(found.probabilities, expected, rtol=1e-3, atol=1e-6)
        if combine != "vote":
            np.testing.assert_array_equal(found.decision, found.probabilities.argmax(axis=1))


@pytest.mark.parametrize(
    "images, says",
    [
        (np.zeros((2, 28, 28), np.float32), r"images of shape \[2, 28, 28\]"),
        (np.zeros((2, 32, 32, 3), np.float32), r"the network takes \[None, 28, 28, 1\]"),
        (np.zeros((2, 28, 28, 1), np.uint8), "images of type uint8"),
    ],
)
def test_images_that_the_network_cannot_take_are_named(shipped, images, says):
    with pytest.raises(EmpirError, match=says):
        shipped.predict(images)


def test_names_that_there_are_not_are_refused(tmp_path):
    for load in (empir.load_dataset, empir.load_ensemble):
        with pytest.raises(EmpirError, match="'minst': choose from mnist"):
            load("minst")
    with pytest.raises(EmpirError, match="members: 'model1' is not PRECISION:CHECKPOINT"):
        empir.load_ensemble("mnist", "model1")
    with pytest.raises(EmpirError, match="network|architecture"):
        empir.load_ensemble("mnist", "fp:" + MEMBERS, network="None")
    with pytest.raises(EmpirError, match="network='AlexNet' needs members"):
        empir.load_ensemble("mnist", network="AlexNet")
    with pytest.raises(DataError):
        empir.load_dataset("mnist", data_dir=str(tmp_path))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An ensemble of two narrow members with random weights."""
    folder = tmp_path_factory.mktemp("members")
    save_members(str(folder))
    return empir.load_ensemble("mnist", f"w2a4:{folder}/model1,fp:{folder}/model3", "vote")


SUITE = (
    AttackSpec("fgsm", "fgsm", everyone=True),
    AttackSpec("vote", "apgd", ViewSpec("vote"), steps=3),
)


@pytest.mark.slow
def test_an_evaluation_is_five_lines(small, data, tmp_path):
    result = empir.evaluate(small, data, threat=empir.Threat("linf", 0.1), suite=SUITE)
    predicted = small.predict(data.images)
    np.testing.assert_array_equal(result.clean, predicted.decision)
    np.testing.assert_array_equal(result.clean_members, predicted.members)
    expected = predicted.decision == data.labels
    for found in result.attacks.values():
        decided = small.predict(found["adversarial"]).decision
        np.testing.assert_array_equal(decided, found["decision"])
        expected[found["row"][found["success"]]] = False
    np.testing.assert_array_equal(result.correct, expected)
    assert list(result.attacks) == ["fgsm", "vote"] and "fgsm" in result.report()
    result.save(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "report.html").exists()
    assert (tmp_path / "saved" / "vote" / "examples.npz").exists()
    with pytest.raises(EmpirError, match="saved exists"):
        result.save(str(tmp_path / "saved"))


@pytest.mark.slow
def test_arrays_are_evaluated_as_datasets_are(small, data):
    threat = empir.Threat("linf", 0.1)
    given = dict(threat=threat, suite=SUITE[:1], progress=False)
    whole = empir.evaluate(small, data, **given)
    arrays = empir.evaluate(small, data.images, data.labels, **given)
    np.testing.assert_array_equal(whole.correct, arrays.correct)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["paper", "whitebox"])
def test_a_protocols_suite_is_the_papers_table(small, data, protocol):
    threat = empir.Threat("linf", 0.1)
    result = empir.evaluate(small, data.first(2), threat=threat, suite=protocol, progress=False)
    assert list(result.attacks) == ["cw", "fgsm", "bim", "pgd"] and result.checks == []
    assert result.record["combine"] == {"paper": "vote", "whitebox": "mean_logits"}[protocol]


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(small, data, tmp_path):
    given = dict(threat=empir.Threat("linf", 0.1), out=str(tmp_path), progress=False)
    first = empir.evaluate(small, data, suite=SUITE, **given)
    (tmp_path / "result.json").unlink()
    again = empir.evaluate(small, data, suite=SUITE, **given)
    np.testing.assert_array_equal(first.correct, again.correct)
    with pytest.raises(EmpirError, match="seed was"):
        empir.evaluate(small, data, suite=SUITE, seed=3, **given)


def test_what_cannot_be_evaluated_is_named(small, data):
    threat = empir.Threat("linf", 0.1)
    with pytest.raises(EmpirError, match="labels are missing"):
        empir.evaluate(small, data.images, threat=threat)
    with pytest.raises(EmpirError, match="suite='strong': choose from adaptive, paper, whitebox"):
        empir.evaluate(small, data, threat=threat, suite="strong")
    with pytest.raises(EmpirError, match="eps=-1"):
        empir.Threat("linf", -1)
