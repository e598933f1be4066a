"""`import empir`: ensembles and datasets in a line each, and predictions without a session."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import softmax

import empir
from empir.errors import DataError, EmpirError
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
    with pytest.raises(DataError):
        empir.load_dataset("mnist", data_dir=str(tmp_path))
