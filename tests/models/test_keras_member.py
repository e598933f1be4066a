"""A user's own Keras model as a member, and under `empir robustness --checkpoint`."""

import contextlib
import hashlib
import json
import os

import numpy as np
import pytest

from empir import attacks, runtime
from empir.attacks.apgd import AutoPGD
from empir.data import mnist
from empir.errors import CheckpointError, ResumeError
from empir.evaluation import suite
from empir.evaluation.graph import Networks, Setting
from empir.evaluation.specs import AttackSpec
from empir.evaluation.threat import Threat
from empir.evaluation.views import AttackedEnsemble
from empir.models.ensemble import Ensemble
from empir.models.keras_member import KerasMember, load_keras
from empir.nn.layers import QuantDense
from empir.nn.quantizers import DoReFaActivations, DoReFaWeights
from empir.runtime import keras, tf
from tests.support import ROOT, one_hot
from tests.support.scripts import assert_refused

LAYERS = keras.layers


@pytest.fixture(scope="module")
def sample():
    """The embedded images, ten of them."""
    return mnist.load("test", None, sample=True).first(10)


def head(kind):
    """Last layers of a classifier."""
    return {
        "softmax layer": [LAYERS.Dense(10), LAYERS.Activation("softmax")],
        "softmax in a dense layer": [LAYERS.Dense(10, activation="softmax")],
        "logits": [LAYERS.Dense(10)],
    }[kind]


def saved(path, layers, seed=1, weights_only=False):
    """Write a model of layers, or its weights; returns these."""
    with tf.Graph().as_default(), runtime.session():
        np.random.seed(seed)  # which Keras' initializers draw their own seeds from
        model = keras.Sequential(layers)
        model.build()
        (model.save_weights if weights_only else model.save)(str(path))
        return model.get_weights()


def changed(path, change):
    """Write a model's file with its bytes changed."""
    saved(path, body() + head("logits"))
    path.write_bytes(change(path.read_bytes()))


def body():
    """First layers: those that behave otherwise in training among them."""
    return [
        LAYERS.Flatten(input_shape=(28, 28, 1)),
        LAYERS.Dense(7),
        LAYERS.BatchNormalization(),
        LAYERS.Activation("relu"),
        LAYERS.Dropout(0.5),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["softmax layer", "softmax in a dense layer", "logits"])
def test_logits_are_what_the_last_softmax_reads(tmp_path, sample, kind):
    w1, b1, gamma, beta, mean, variance, w2, b2 = saved(tmp_path / "m.h5", body() + head(kind))
    x = sample.images.reshape(10, -1) @ w1 + b1
    x = np.maximum(0, gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta)
    with tf.Graph().as_default(), runtime.session() as session:
        member = load_keras(str(tmp_path / "m.h5"), sample)
        # Twice, and with other tensors: Keras remembers calls by the tensors' addresses.
        for images in (sample.images, sample.images[:3]):
            logits = session.run(member.get_logits(tf.constant(images)))
            np.testing.assert_allclose(logits, (x @ w2 + b2)[: len(images)], atol=1e-4)
        with open(str(tmp_path / "m.h5"), "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        assert member.describe()["sha256"] == digest and not member.draws


@pytest.mark.slow
def test_a_functional_model_within_a_model_works(tmp_path, sample):
    with tf.Graph().as_default(), runtime.session() as session:
        inner_in = keras.Input((28, 28, 1))
        inner = keras.Model(inner_in, LAYERS.Dense(5)(LAYERS.Flatten()(inner_in)))
        outer_in = keras.Input((28, 28, 1))
        model = keras.Model(outer_in, LAYERS.Dense(10, activation="softmax")(inner(outer_in)))
        session.run(tf.global_variables_initializer())
        expected = session.run(tf.log(model(tf.constant(sample.images))))
        model.save(str(tmp_path / "m.h5"))
    with tf.Graph().as_default(), runtime.session() as session:
        member = load_keras(str(tmp_path / "m.h5"), sample)
        for _ in range(2):
            logits = session.run(tf.nn.log_softmax(member.get_logits(tf.constant(sample.images))))
            np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_models_with_this_packages_layers_load(tmp_path, sample):
    layer = QuantDense(
        10, input_quantizer=DoReFaActivations(1), kernel_quantizer=DoReFaWeights(2), name="q"
    )
    saved(tmp_path / "m.h5", [LAYERS.Flatten(input_shape=(28, 28, 1)), layer])
    with tf.Graph().as_default(), runtime.session() as session:
        member = load_keras(str(tmp_path / "m.h5"), sample)
        logits = session.run(member.get_logits(tf.constant(sample.images)))
        assert logits.shape == (10, 10) and logits.any()


@pytest.mark.slow
def test_a_model_without_a_file_is_told_from_others(tmp_path, sample):
    """By its weights, so that the run of one does not go on with another."""

    def evaluate(seed):
        @contextlib.contextmanager
        def opened():
            with tf.Graph().as_default(), runtime.session() as session:
                model = keras.Sequential(body() + head("logits"))
                random = np.random.RandomState(seed)
                shapes = [array.shape for array in model.get_weights()]
                model.set_weights([random.uniform(size=shape) for shape in shapes])
                yield Networks(session, Ensemble([KerasMember(model)]))

        setting = Setting(opened, sample, Threat(eps=0.1))
        trials = [AttackSpec("noise", "noise", everyone=True)]
        return suite.run(setting, str(tmp_path), trials, progress=False, analyses=False).record

    first = evaluate(1)
    (member,) = first["members"]
    assert member["path"] is None and len(member["sha256"]) == 64
    assert evaluate(1)["members"] == first["members"]
    with pytest.raises(ResumeError, match="another evaluation"):
        evaluate(2)


@pytest.mark.slow
def test_attacks_on_it_succeed(tmp_path, sample):
    saved(tmp_path / "m.h5", body() + head("softmax layer"))
    with tf.Graph().as_default(), runtime.session() as session:
        ensemble = Ensemble([load_keras(str(tmp_path / "m.h5"), sample)])
        images = tf.constant(sample.images)
        decided = session.run(ensemble.decision(images))
        attack = AutoPGD(AttackedEnsemble(ensemble), sess=session)
        found = attack.generate(images, y=one_hot(decided), eps=0.3, nb_iter=20)
        assert (session.run(ensemble.decision(found)) != decided).all()


STRONG_CW = dict(
    binary_search_steps=1, max_iterations=30, initial_const=100.0, learning_rate=0.1, batch_size=10
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, parameters", [("fgsm", {}), ("pgd", {"nb_iter": 3}), ("cw", STRONG_CW)]
)
def test_attacks_take_a_model_that_normalises_and_leave_it_trainable(sample, name, parameters):
    with tf.Graph().as_default(), runtime.session() as session:
        keras.backend.set_session(session)
        np.random.seed(1)
        inner = keras.Sequential(body())
        normalisation = inner.layers[2]
        model = keras.Sequential([inner] + head("softmax layer"))
        session.run(tf.global_variables_initializer())
        before, updates = model.get_weights(), len(normalisation.updates)
        attack = attacks.create(name, model, session)
        found = attack.generate_np(sample.images, clip_min=0.0, clip_max=1.0, **parameters)
        assert found.shape == sample.images.shape and not np.array_equal(found, sample.images)
        for was, now in zip(before, model.get_weights()):
            np.testing.assert_array_equal(was, now)
        assert len(normalisation.updates) == updates
        inner.call(tf.constant(sample.images))
        assert len(normalisation.updates) > updates


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda path: None, "is no model"),
        (lambda path: path.write_bytes(b"text"), "is no model that keras.Model.save wrote"),
        (lambda path: changed(path, lambda content: content[:3000]), "is no model that keras"),
        (lambda path: saved(path, body() + head("logits"), weights_only=True), "it holds weights"),
        (
            lambda path: changed(
                path, lambda content: content.replace(b"class_name", b"class_nom_")
            ),
            "is no model that keras.Model.save wrote",
        ),
        (
            lambda path: saved(path, [LAYERS.Flatten(input_shape=(8, 8, 1)), LAYERS.Dense(10)]),
            r"from \(8, 8, 1\) to \(10,\), but mnist needs \(28, 28, 1\) to \(10,\)",
        ),
        (
            lambda path: saved(path, [LAYERS.Flatten(input_shape=(28, 28, 1)), LAYERS.Dense(3)]),
            r"to \(3,\)",
        ),
        (
            lambda path: saved(path, [LAYERS.Dense(10, input_shape=(28, 28, 1))]),
            r"to \(28, 28, 10\)",
        ),
    ],
    ids=[
        "missing",
        "text",
        "truncated",
        "weights",
        "no classes",
        "other images",
        "other classes",
        "images",
    ],
)
def test_what_is_no_such_classifier_is_refused(tmp_path, sample, make, says):
    make(tmp_path / "m.h5")
    with tf.Graph().as_default(), runtime.session():
        with pytest.raises(CheckpointError, match=says):
            load_keras(str(tmp_path / "m.h5"), sample)


@pytest.mark.slow
def test_the_command_evaluates_it(empir_command, tmp_path):
    saved(tmp_path / "m1.h5", body() + head("softmax layer"))
    bits = dict(input_quantizer=DoReFaActivations(4), kernel_quantizer=DoReFaWeights(2))
    saved(tmp_path / "m2.h5", body() + [QuantDense(10, name="low", **bits)])
    line = "--dataset=mnist --sample --nb_samples=6 --eps=0.02 --noprogress --noanalyses "
    line += "--checkpoint=m1.h5,m2.h5 --outside= --nb_iter=20 --restarts=1 --out=out"
    process = empir_command("robustness " + line, tmp_path)
    assert process.returncode == 0, process.stderr
    with open(str(tmp_path / "out" / "result.json")) as file:
        record = json.load(file)
    assert record["architecture"] == "Keras" and not record["outside"]
    assert [member["path"] for member in record["members"]] == ["m1.h5", "m2.h5"]
    assert [member["weight_bits"] for member in record["members"]] == [None, 2]
    assert {"apgd-open", "apgd-smooth"} <= {trial["name"] for trial in record["trials"]}
    with open(str(tmp_path / "out" / "report.html")) as file:
        page = file.read()
        assert all(text in page for text in ("m1.h5", "full precision", "m2.h5", "w2a4"))
    with open(str(tmp_path / "out" / "report.md")) as file:
        assert "1. `m1.h5`, full precision\n2. `m2.h5`, w2a4\n" in file.read()


@pytest.mark.parametrize(
    "line, says",
    [
        ("--checkpoint=none.h5", "--checkpoint=none.h5: no such file"),
        ("--checkpoint=", "--checkpoint= has an empty name"),
        ("--checkpoint=setup.py,", "--checkpoint=setup.py, has an empty name"),
        ("--checkpoint=setup.py --rand", "--rand and --checkpoint exclude each other"),
        ("--checkpoint=setup.py --members=fp:x", "--members and --checkpoint exclude each other"),
        ("--rand", "--rand needs --members=PRECISION:CHECKPOINT"),
        ("--network=CIFARconv", "--network=CIFARconv needs --members=PRECISION:CHECKPOINT"),
        ("--trust", "--trust is about the files of --checkpoint"),
        ("--checkpoint=setup.py --nb_samples=5", "setup.py is no model that keras.Model.save"),
    ],
)
def test_bad_input_is_one_line(empir_command, line, says):
    assert_refused(empir_command("robustness --out=runs/none --sample " + line), says)
    assert not os.path.exists(os.path.join(ROOT, "runs", "none"))
