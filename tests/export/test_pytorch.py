"""The exported PyTorch networks compute what TensorFlow does, and what the authors' code did."""

import json
import os
import shutil
import subprocess
from typing import NamedTuple

import numpy as np
import pytest

from empir import export, front
from empir.attacks import losses
from empir.experiments import EXPERIMENTS
from empir.export import source
from empir.models import checkpoints
from empir.models.ensemble import Ensemble, View
from empir.nn import architecture
from empir.runtime import tf
from tests.benchmarks.test_workers import PYTORCH, needs_pytorch
from tests.golden import recipe
from tests.support import GOLDEN, ROOT
from tests.support.documented import blocks
from tests.support.made_once import made_once
from tests.support.released import NAMES, SHAPES, narrow

pytestmark = [pytest.mark.slow, needs_pytorch]  # it starts a process, once

COUNT = 8  # images


class Case(NamedTuple):
    """An ensemble that is exported; its members' precisions, and its rule."""

    dataset: str
    members: tuple
    combine: str


CASES = {
    "mnist": Case("mnist", ("w2a4", "w2a4", "fp"), "vote"),
    "cifar10": Case("cifar10", ("w4a2", "w2a2", "fp"), "mean_probs"),
    "mixed": Case("mnist", ("w1a2/w31a31/fp", "w9a24/w2a4/w4a2"), "mean_logits"),
    "alexnet": Case("imagenet", ("w2a24/w4a31/fp/w8a16/w2a4/w4a2",), "mean_logits"),
}


def weights_of(name, case, number, kind):
    """Released name -> array: those of the golden outputs, or random ones of narrow networks."""
    network = EXPERIMENTS[case.dataset].architecture
    if name not in recipe.DATASETS or name == "alexnet":
        return narrow(kind, 2, number, network)
    shapes = SHAPES[network](architecture(network).nb_filters)
    return {
        released: recipe.weight(name, number, released, shape)
        for released, shape in zip(NAMES[network][kind], shapes)
    }


def images_of(name):
    """Images [n, height, width, channels], some values exactly 0 and 1."""
    key = name if name in recipe.DATASETS else "mnist"
    return recipe.images(key)[: 2 if name == "alexnet" else COUNT]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folder, ensemble and outputs of each case; one process of PyTorch computes all of them."""
    base = made_once(tmp_path_factory, "in_pytorch", compute)
    found = {}
    for name in CASES:
        folder = str(base / name / "exported")
        outputs = np.load(os.path.join(folder, "outputs.npz"))
        found[name] = (folder, ensemble_of(name, base), outputs)
    yield found
    for _, ensemble, _ in found.values():
        ensemble.session.close()


def ensemble_of(name, base):
    """The ensemble of a case, whose members are saved."""
    case = CASES[name]
    texts = [
        f"{precision}:{base / name / 'member'}{number}"
        for number, precision in enumerate(case.members, 1)
    ]
    return front.load_ensemble(case.dataset, texts, case.combine, engine=False)


def compute(base):
    """Save each case's members and images, export it, and compute all in PyTorch."""
    folders = [str(base / name / "exported") for name in CASES]
    for (name, case), folder in zip(CASES.items(), folders):
        for number, precision in enumerate(case.members, 1):
            kind = "fp" if precision == "fp" else "lp"
            path = str(base / name / f"member{number}")
            checkpoints.save(path, weights_of(name, case, number, kind))
        ensemble = ensemble_of(name, base)
        export.write(source.read(ensemble, EXPERIMENTS[case.dataset]), "pytorch", folder)
        ensemble.session.close()
        images = images_of(name).transpose(0, 3, 1, 2)
        labels = np.arange(len(images)) % 10
        np.savez(os.path.join(folder, "inputs.npz"), images=images, labels=labels)
    page = [block for block in blocks("python") if block.page == "docs/pytorch.md" and block.title]
    with open(str(base / "mixed" / "exported" / "blocks.json"), "w") as file:
        json.dump([(block.title, block.text) for block in page], file)
    program = os.path.join(ROOT, "tests", "export", "in_pytorch.py")
    done = subprocess.run([PYTORCH, "-B", program] + folders, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()


def close(found, expected, tolerance=1e-5):
    """Whether arrays differ by no more than a share of the largest."""
    assert found.shape == expected.shape
    return np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("name", sorted(CASES))
def test_logits_and_decisions_are_tensorflows(exported, name):
    _, ensemble, outputs = exported[name]
    found = ensemble.predict(images_of(name))
    assert close(outputs["members"], found.logits)
    np.testing.assert_array_equal(outputs["decision"], found.decision)
    np.testing.assert_array_equal(outputs["members"].argmax(2), found.members)
    votes = Ensemble(ensemble.members, "vote")
    votes.session = ensemble.session
    np.testing.assert_array_equal(outputs["vote"], votes.predict(images_of(name)).decision)
    np.testing.assert_allclose(softmax(outputs["logits"]), found.probabilities, atol=1e-5)


def softmax(logits):
    """Of the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.skipif(not shutil.which("nvidia-smi"), reason="No GPU is here.")
def test_logits_on_a_gpu_are_those_on_the_processor(exported):
    for _, _, outputs in exported.values():
        if "on a GPU" not in outputs.files:
            pytest.skip("PyTorch sees no GPU here: logits there are not compared")
        assert close(outputs["on a GPU"], outputs["members"])


def test_an_image_alone_has_the_same_logits(exported):
    for _, _, outputs in exported.values():
        assert close(outputs["first alone"], outputs["logits"][:1])


def test_the_blocks_of_the_page_run_in_every_library(exported):
    with open(os.path.join(exported["mixed"][0], "blocks.json")) as file:
        wrong = json.load(file)
    assert list(wrong) == ["network", "pyautoattack", "torchattacks", "foolbox", "art"] + [
        "torch.compile",
        "torch.export",
    ]
    assert not any(wrong.values()), "\n".join(wrong.values())


def test_a_folder_of_something_else_is_refused_in_a_line(exported):
    with open(os.path.join(exported["mixed"][0], "refusals.json")) as file:
        told = json.load(file)
    says = {
        "foreign": "config.json: format is None, not one of: 1",
        "network": "architecture is 'VGG', not one of: MNISTconv, CIFARconv, AlexNet",
        "bits": "member 1, conv1: {'weight_bits': 32",
        "digest": "weights.safetensors has the sha256",
        "missing": "networks.0.conv1.weight",
        "cut off": "is no file of weights",
    }
    assert set(told) == set(says)
    for name, text in says.items():
        assert text in told[name] and "\n" not in told[name], name


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_outputs_are_those_of_the_authors_code(exported, name):
    outputs = exported[name][2]
    with np.load(os.path.join(GOLDEN, name + ".npz")) as golden:
        # The bounds of tests/nn/test_golden.py.
        first = {key: golden[key][:COUNT] for key in golden.files if golden[key].ndim}
        members = np.stack([first[f"logits{number}"] for number in (1, 2, 3)], 1)
        np.testing.assert_allclose(outputs["members"], members, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(outputs["vote"], first["vote"])
        found = {
            "majority_probs": outputs["view majority_probs"],
            "mean_probs": softmax(outputs["members"]).mean(1),
        }
        for key, array in found.items():
            np.testing.assert_allclose(array, first[key], rtol=0, atol=5e-5)


#: Names of losses in `in_pytorch`, and here.
LOSSES = {"cross_entropy": "ce", "margin": "margin", "dlr": "dlr"}


def tensorflow_gradients(name, ensemble, images, labels):
    """As `in_pytorch.gradients`, in TensorFlow; of AlexNet those of losses alone."""
    views = {"loss": View(ensemble, "decision")}
    if name != "alexnet":
        for backward in ("open", "smooth"):
            other = ensemble.with_backward(backward)
            views[f"backward {backward}"] = View(other, "decision")
        for other in ("full_precision", "majority_probs"):
            views[f"view {other}"] = View(ensemble, other)
    with ensemble.session.graph.as_default():
        x, wanted = tf.constant(images), {}
        for key, view in views.items():
            logits = view.get_logits(x)
            y = tf.one_hot(labels, logits.shape[1])
            for loss, own in LOSSES.items() if key == "loss" else [(None, "ce")]:
                (gradient,) = tf.gradients(losses.loss(own, logits, y), x)
                wanted[f"{key} {loss}" if loss else key] = gradient
        return ensemble.session.run(wanted)


#: Where members agree the softmax of a softmax has a gradient that cancels.
TOLERANCES = {"view majority_probs": 1e-4}


@pytest.mark.parametrize("name", ["alexnet", "cifar10", "mnist"])
def test_input_gradients_are_tensorflows(exported, name):
    _, ensemble, outputs = exported[name]
    images = images_of(name)
    expected = tensorflow_gradients(name, ensemble, images, np.arange(len(images)) % 10)
    for key, gradient in expected.items():
        found = outputs[f"gradient, {key}"].transpose(0, 2, 3, 1)
        assert np.abs(gradient).max() > 0
        assert close(found, gradient, TOLERANCES.get(key, 1e-5)), key
