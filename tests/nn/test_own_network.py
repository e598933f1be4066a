"""A network of one's own, with a branch: built, trained, saved, loaded, and attacked."""

import json

import numpy as np
import pytest

from empir import nn
from empir.commands import attack, commandline
from empir.data import mnist
from empir.errors import EmpirError
from empir.fast.engine import engine_for
from empir.models.member import Member, load_member
from empir.nn import Architecture
from empir.nn.precision import FULL, Precision
from empir.runtime import keras, tf
from empir.training import Settings, objectives, train
from tests.support.in_process import run_here
from tests.support.scripts import RESULT

pytestmark = pytest.mark.slow  # it trains networks

W2A4 = Precision(2, 4)


def residual(build, x, f):
    """A convolution, and a quantized one around which its input is added."""
    x = build.relu(build.conv(x, "conv1", f, 5, strides=4), "relu1")
    x = build.add([x, build.conv(x, "conv2", f, 3)], "sum")
    return build.linear(build.flatten(x), "logits", 10)


FIELDS = dict(input_shape=(28, 28, 1), num_classes=10, quantized_layers=("conv2",), nb_filters=3)


@pytest.fixture
def network():
    """The network by name, for one test."""
    yield nn.register("Residual", residual, **FIELDS)
    del nn.REGISTERED["Residual"]


def test_branches_meet_and_each_layer_has_its_precision(network, session, random):
    model = network.build(W2A4, seed=1)
    session.run([variable.initializer for variable in model.weights])
    images = tf.constant(random.uniform(size=(2, 28, 28, 1)).astype(np.float32))
    outputs = session.run(Member(model, [W2A4]).fprop(images))
    np.testing.assert_array_equal(outputs["sum"], outputs["relu1"] + outputs["conv2"])
    assert outputs["logits"].shape == (2, 10)
    bits = [getattr(layer, "kernel_quantizer", None) for layer in model.layers]
    assert [quantizer.bits for quantizer in bits if quantizer] == [2]


def test_an_engine_computes_networks_without_branches_only(network):
    branched, chain = network.build(seed=1), nn.architecture("MNISTconv").build(seed=1)
    assert engine_for(branched) is None and engine_for(chain) is not None
    assert engine_for(chain, wanted=False) is None
    with pytest.raises(EmpirError, match="Residual has branches or layers"):
        engine_for(branched, wanted=True)


def test_it_is_trained_saved_loaded_and_attacked_by_name(network, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = mnist.load(sample=True).first(60)
    np.savez("mine.npz", images=data.images, labels=data.labels)
    settings = Settings(
        network=network,
        precisions=(W2A4,),
        options={},
        epochs=1,
        batch_size=30,
        learning_rate=0.01,
        seed=1,
        objective=objectives.PGDTraining(0.1, 0.05, 1, (0.0, 1.0)),
    )
    arrays = train(settings, data, "member", progress=False)
    kernels = ["lp_conv1/kernel", "lp_conv2/kernel", "lp_logits/kernel"]
    assert sorted(arrays) == kernels
    with tf.Graph().as_default(), tf.Session() as session:
        member = load_member(network, W2A4, "member", session)
        values = session.run(member.get_params())
        decided = session.run(member.decision(tf.constant(data.images)))
    for name, value in zip(kernels, values):
        np.testing.assert_array_equal(value, arrays[name])
    (tmp_path / "file.py").write_text(
        "from empir.nn import architecture\nNET = architecture('Residual')"
    )
    line = "x --network=file.py:NET --members=w2a4:member --data=mine.npz --attack=pgd --nb_iter=1"
    words = line.split() + ["--out=out", "--noprogress"]
    told = run_here(lambda: commandline.run_main(lambda: attack.setup("mnist"), words), capfd)
    assert told.returncode == 0 and RESULT.match(told.stdout), told.stderr
    with open("out/result.json") as file:
        record = json.load(file)
    assert record["architecture"] == "Residual"
    assert record["clean_accuracy"] == pytest.approx((decided == data.labels).mean())


def unnamed(build, x, _):
    return build.linear(keras.layers.Dense(4)(build.flatten(x)), "logits", 10)


WRONG = [
    (residual, dict(quantized_layers=("conv2", "conv3")), "no linear layer of the name conv3"),
    (residual, dict(num_classes=9), "must end with a layer logits of 9 values"),
    (lambda build, x, f: build.linear(build.flatten(x), "fc", 10), {}, "it ends with fc"),
    (unnamed, {}, "give its Dense a name"),
]


@pytest.mark.parametrize("layers, changes, says", WRONG, ids=[row[2] for row in WRONG])
def test_a_network_that_cannot_be_used_says_why(layers, changes, says):
    own = Architecture("own", layers, **dict(FIELDS, **{"quantized_layers": (), **changes}))
    with pytest.raises(EmpirError, match=says):
        own.build(FULL)


def test_a_name_is_given_once(network):
    for name in ("Residual", "MNISTconv"):
        with pytest.raises(EmpirError, match=f"there is a network {name} already"):
            nn.register(name, residual, **FIELDS)
