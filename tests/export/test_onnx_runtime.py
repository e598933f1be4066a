"""Ensembles whose decisions ONNX Runtime computes."""

import copy

import numpy as np
import pytest

import empir
from empir import export
from empir.errors import EmpirError
from empir.evaluation.graph import AttackGraph, Judge, Networks, Setting
from empir.evaluation.specs import AttackSpec


@pytest.fixture(scope="module")
def ensembles():
    """MNIST's ensemble by the name of its runtime."""
    return {name: empir.load_ensemble("mnist", runtime=name) for name in ("tensorflow", "onnx")}


@pytest.mark.slow
def test_predictions_are_those_of_tensorflow(ensembles):
    data = empir.load_dataset("mnist", sample=True).first(60)
    own, theirs = (ensembles[name].predict(data.images[:]) for name in ("onnx", "tensorflow"))
    np.testing.assert_array_equal(own.decision, theirs.decision)
    np.testing.assert_array_equal(own.members, theirs.members)
    np.testing.assert_allclose(own.probabilities, theirs.probabilities, atol=0.02)
    assert own.logits.shape == theirs.logits.shape and own.logits.dtype == np.float32


def test_gradients_are_tensorflows_and_it_judges(ensembles):
    data = empir.load_dataset("mnist", sample=True).first(8)
    ensemble = ensembles["onnx"]
    setting = Setting(open=None, data=data, threat=empir.Threat("linf", 0.2))
    with ensemble.session.graph.as_default(), ensemble.session.as_default():
        networks = Networks(ensemble.session, ensemble)
        judge = Judge(setting, networks)
        graph = AttackGraph(setting, networks, AttackSpec("fgsm", "fgsm"), judge)
        found = graph.attack(data.images[:], data.labels, np.arange(8), eps=0.2)
    own, theirs = (ensembles[name].predict(found["adversarial"]) for name in ("onnx", "tensorflow"))
    np.testing.assert_array_equal(found["decision"], own.decision)
    np.testing.assert_array_equal(found["logits"], own.logits)
    np.testing.assert_array_equal(found["decision"], theirs.decision)
    assert found["linf"].max() > 0.19


def test_another_version_than_the_drivers_is_refused(ensembles):
    ensemble = copy.copy(ensembles["tensorflow"])
    given = ensemble.session, "mnist", "MNISTconv"
    with pytest.raises(EmpirError, match="ONNX Runtime is .* there, 0.1 with the driver"):
        export.attach_onnx(ensemble, *given, version="0.1")
    export.attach_onnx(ensemble, *given, version=export.require_onnx())
    assert ensemble.runtime is not None


class Counting:
    """A runtime that counts the images that it is asked about."""

    def __init__(self, outputs):
        self.outputs, self.num_classes, self.images = outputs, outputs.num_classes, 0

    def __call__(self, images):
        self.images += len(images)
        return self.outputs(images)

    def logits(self, images):
        """The members' logits."""
        self.images += len(images)
        return self.outputs.logits(images)


def test_attacks_without_gradients_ask_it(ensembles):
    data = empir.load_dataset("mnist", sample=True).first(3)
    ensemble = copy.copy(ensembles["onnx"])
    ensemble.runtime, ensemble.reopen = Counting(ensemble.runtime), None
    attacks = [AttackSpec(name, name, steps=4, everyone=True) for name in ("square", "rays")]
    threat = empir.Threat("linf", 0.01)
    found = empir.evaluate(ensemble, data, threat=threat, suite=attacks, progress=False)
    # Steps of two attacks, beside the clean and the found images.
    assert ensemble.runtime.images > 10 * 3
    assert found.record["options"] == {"runtime": "onnx"}
    for name in ("square", "rays"):
        adversarial = found.attacks[name]["adversarial"]
        wanted = ensembles["tensorflow"].predict(adversarial).decision
        np.testing.assert_array_equal(found.attacks[name]["decision"], wanted)


def test_an_unknown_runtime_is_refused():
    with pytest.raises(EmpirError, match="runtime='tensorrt': choose from tensorflow, onnx"):
        empir.load_ensemble("mnist", runtime="tensorrt")
