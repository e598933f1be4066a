"""Files of Keras models: their bits, and what is refused before it runs or computes nonsense."""

import json
import os

import h5py
import numpy as np
import pytest

from empir import runtime
from empir.data import mnist
from empir.errors import CheckpointError
from empir.evaluation.suites import adaptive
from empir.models import keras_file
from empir.models.ensemble import Ensemble
from empir.models.keras_member import KerasMember, load_keras
from empir.nn.layers import QuantConv2D, QuantDense, quantize_once
from empir.nn.precision import FULL, Precision
from empir.nn.quantizers import DoReFaActivations, DoReFaWeights
from empir.report import networks
from empir.runtime import keras, tf

LAYERS = keras.layers
SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def sample():
    """The embedded images, four of them."""
    return mnist.load("test", None, sample=True).first(4)


def bits(weights, activations, **options):
    """Arguments of a layer of so many bits."""
    return dict(
        kernel_quantizer=weights and DoReFaWeights(weights, **options),
        input_quantizer=activations and DoReFaActivations(activations, **options),
    )


def quantized(*layers):
    """A classifier of which the first layer is w2a4 unless others are given."""
    layers = layers or (QuantConv2D(2, 5, 4, input_shape=SHAPE, name="low", **bits(2, 4)),)
    return [*layers, LAYERS.Flatten(), LAYERS.Dense(10, activation="softmax", name="last")]


def nested(*layers):
    """A classifier with these layers in a model in a wrapper."""
    inner = keras.Sequential([LAYERS.Reshape((784,), input_shape=SHAPE), *layers], "inner")
    return [
        LAYERS.Reshape((1,) + SHAPE, input_shape=SHAPE),
        LAYERS.TimeDistributed(inner),
        LAYERS.Flatten(),
        LAYERS.Dense(10),
    ]


def dense(*layers):
    """A classifier with these layers between its first and its last one."""
    return [LAYERS.Flatten(input_shape=SHAPE), *layers, LAYERS.Dense(10, name="last")]


def save(path, layers):
    """Write the classifier of the layers that a function returns; its outputs for ones."""
    with tf.Graph().as_default(), runtime.session() as session:
        np.random.seed(1)
        model = keras.Sequential(layers())
        model.save(str(path))
        ones = np.ones((1,) + SHAPE)
        quantize_once([model], session)
        return model.predict(ones)


def load(path, data, **options):
    """What a file's member says of itself, and its suite's trials."""
    with tf.Graph().as_default(), runtime.session():
        member = load_keras(str(path), data, **options)
        names = [trial.name for trial in adaptive(Ensemble([member]))]
        return member, member.describe(), names


@pytest.mark.slow
@pytest.mark.parametrize(
    "layers, precisions, words",
    [
        (lambda: dense(), [FULL], "full precision"),
        (lambda: quantized(), [Precision(2, 4)], "w2a4"),
        (lambda: nested(QuantDense(3, **bits(1, 2))), [Precision(1, 2)], "w1a2"),
        (lambda: dense(QuantDense(3, **bits(None, 3))), [Precision(None, 3)], "w32a3"),
        (
            lambda: dense(QuantDense(5, **bits(4, 4)), LAYERS.ReLU(), QuantDense(3, **bits(2, 1))),
            [Precision(4, 4), Precision(2, 1)],
            "by layer w4a4, w2a1",
        ),
    ],
)
def test_a_files_bits_are_recorded_and_attacked(tmp_path, sample, layers, precisions, words):
    save(tmp_path / "m.h5", layers)
    load(tmp_path / "m.h5", sample)
    member, described, trials = load(tmp_path / "m.h5", sample)  # as often as there are attacks
    assert member.precisions == tuple(precisions) and networks.precision(described) == words
    low = precisions != [FULL]
    assert member.is_full_precision != low and not member.draws
    assert ("quantized_layers" in described) == low
    assert ({"apgd-open", "apgd-smooth"} <= set(trials)) == low


@pytest.mark.slow
def test_a_file_that_draws_at_random_is_known_before_it_is_loaded(tmp_path, sample):
    random = bits(2, 2, stochastic=True)
    save(tmp_path / "m.h5", lambda: nested(QuantDense(3, **random)))
    assert keras_file.read(str(tmp_path / "m.h5")).draws
    member, _, _ = load(tmp_path / "m.h5", sample)
    assert member.draws and Ensemble([member]).draws


@pytest.mark.slow
def test_a_frozen_quantized_file_computes(tmp_path, sample):
    """Its quantized kernels are variables, which loading must give their values."""
    options = dict(bits(2, 4), trainable=False)
    expected = save(tmp_path / "m.h5", lambda: nested(QuantDense(3, **options)))
    with tf.Graph().as_default(), runtime.session() as session:
        logits = load_keras(str(tmp_path / "m.h5"), sample).get_logits(tf.ones((1,) + SHAPE))
        np.testing.assert_allclose(session.run(logits), expected, atol=1e-5)


def test_keras_own_softmax_and_unit_norm_are_not_taken_for_ours(tmp_path, sample):
    norm = keras.constraints.UnitNorm(axis=0)
    save(
        tmp_path / "m.h5", lambda: dense(LAYERS.Dense(4, kernel_constraint=norm), LAYERS.Softmax())
    )
    assert load(tmp_path / "m.h5", sample)[0].is_full_precision


class Signs(LAYERS.Layer):
    """A layer of someone else."""

    def call(self, inputs):
        """Signs."""
        return tf.sign(inputs)


@pytest.mark.parametrize(
    "layer, name",
    [
        (lambda: Signs(name="signs"), "signs"),
        (lambda: LAYERS.Lambda(tf.sign, name="signs"), "signs"),
        (lambda: LAYERS.Dense(3, activation=lambda x: tf.sign(x), name="dense"), "dense"),
        (lambda: QuantDense(3, kernel_quantizer=tf_sign, name="q"), "q"),
    ],
    ids=["layer", "lambda", "activation", "quantizer"],
)
def test_models_with_parts_of_others_are_of_unknown_precision(layer, name):
    with tf.Graph().as_default(), runtime.session():
        member = KerasMember(keras.Sequential(dense(layer())))
        assert member.unknown == [name] and not member.is_full_precision
        assert networks.precision(dict(member.describe())) == "unknown precision"
        assert member.describe()["unknown_layers"] == [name]


def tf_sign(kernel):
    """A quantizer of someone else."""
    return tf.sign(kernel)


tf_sign.stochastic = False


def code(marker):
    """A layer that makes a file whenever it is built."""
    return LAYERS.Lambda(eval("lambda x: (open(%r, 'w'), x)[1]" % str(marker)), name="harmless")


@pytest.mark.parametrize(
    "layers", [lambda m: dense(code(m)), lambda m: nested(code(m))], ids=["plain", "nested"]
)
def test_code_in_a_file_does_not_run_unless_it_is_trusted(tmp_path, sample, layers):
    marker = tmp_path / "ran"
    save(tmp_path / "m.h5", lambda: layers(marker))
    marker.unlink()
    with pytest.raises(CheckpointError, match="layer 'harmless' is a Lambda.*--trust"):
        load(tmp_path / "m.h5", sample)
    assert not marker.exists()
    _, described, _ = load(tmp_path / "m.h5", sample, trust=True)
    assert marker.exists() and networks.precision(described) == "unknown precision"


def describe(path, change):
    """Change the text of a file's description."""
    with h5py.File(str(path), "r+") as file:
        text = file.attrs["model_config"].decode()
        changed = change(text)
        assert changed != text
        file.attrs["model_config"] = changed.encode()


def wrapped(text):
    """The description with its quantized layer in a wrapper in a cell, as code."""
    inner = {"class_name": "Lambda", "config": {"name": "hidden"}}
    both = {"class_name": "Bidirectional", "config": {"name": "b", "layer": {"cell": inner}}}
    described = json.loads(text)
    described["config"]["layers"].append(both)
    return json.dumps(described)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda text: text.replace("DoReFaWeights", "Signs"), "'Signs' of layer 'low' is no class"),
        (lambda text: text.replace("QuantConv2D", "Fancy"), "'Fancy' of layer 'low' is no class"),
        (lambda text: text.replace("GlorotUniform", "x").replace("Zeros", "Nil"), "'Nil' of layer"),
        (wrapped, "layer 'hidden' is a Lambda"),
        (lambda text: text.replace('"float32"', '"float64"'), "layer 'low' is of type float64"),
        (lambda text: text.replace('"units": 10', '"units": 1000000000000'), "its layers have"),
        (lambda text: text.replace('"softmax"', '"sotfmax"'), "Unknown activation.*sotfmax"),
        (lambda text: text[:-9], "is no model that keras.Model.save wrote"),
        (lambda text: "[" * 100000, "is no model that keras.Model.save wrote"),
        (lambda text: "[]", "its description of the model is none"),
    ],
)
def test_descriptions_that_cannot_be_built_are_one_line(tmp_path, sample, change, says):
    save(tmp_path / "m.h5", quantized)
    describe(tmp_path / "m.h5", change)
    with pytest.raises(CheckpointError, match=says) as caught:
        load(tmp_path / "m.h5", sample)
    assert "\n" not in str(caught.value) and "m.h5" in str(caught.value)


def fill(name, value):
    """A change of a file: the first value of an array of weights."""

    def change(file):
        file["model_weights"][name][(0,) * file["model_weights"][name].ndim] = value

    return change


def replace(name, **options):
    """A change of a file: an array of weights is stored otherwise."""

    def change(file):
        array = file["model_weights"][name][()]
        del file["model_weights"][name]
        file["model_weights"].create_dataset(name, data=array, **options)

    return change


def link(file):
    """A change of a file: its weights are another file's."""
    del file["model_weights"]["last/last/kernel:0"]
    file["model_weights"]["last/last/kernel:0"] = h5py.ExternalLink("other.h5", "kernel")


@pytest.mark.parametrize(
    "change, says",
    [
        (fill("last/last/kernel:0", np.nan), "last/kernel:0 holds NaN or infinity"),
        (fill("last/last/bias:0", -np.inf), "last/bias:0 holds NaN or infinity"),
        (fill("norm/norm/moving_variance:0", -0.5), "norm/moving_variance:0 is negative, -0.5"),
        (replace("last/last/kernel:0", dtype="float16"), "last/kernel:0 is of type float16"),
        (replace("last/last/kernel:0", dtype="float64"), "last/kernel:0 is of type float64"),
        (replace("last/last/kernel:0", compression=9), "last/kernel:0 is damaged, or compressed"),
        (link, "kernel:0 is a link to weights elsewhere"),
        (lambda file: file.attrs.__delitem__("model_config"), "it describes no model"),
        (lambda file: file.__delitem__("model_weights"), "is no model that keras.Model.save wrote"),
    ],
)
def test_weights_that_no_network_computes_with_are_one_line(tmp_path, sample, change, says):
    save(tmp_path / "m.h5", lambda: dense(LAYERS.BatchNormalization(name="norm")))
    with h5py.File(str(tmp_path / "m.h5"), "r+") as file:
        change(file)
    with pytest.raises(CheckpointError, match=says):
        load(tmp_path / "m.h5", sample)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_models_of_other_types_are_refused(tmp_path, sample, dtype):
    keras.backend.set_floatx(dtype)
    try:
        save(tmp_path / "m.h5", dense)
    finally:
        keras.backend.set_floatx("float32")
    with pytest.raises(CheckpointError, match="is of type " + dtype):
        load(tmp_path / "m.h5", sample)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:3000],
        lambda content: content[:-1],
        lambda content: content[:2135] + bytes([content[2135] ^ 1]) + content[2136:],
        lambda content: content[:1987] + bytes([content[1987] ^ 1]) + content[1988:],
    ],
)
def test_damaged_files_are_one_line(tmp_path, capfd, damage):
    """The last ones end a process that reads them, or have its exit say so on many lines."""
    path = tmp_path / "m.h5"
    save(path, dense)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match="m.h5 is no model that keras.Model.save wrote"):
        keras_file.read(str(path))
    assert capfd.readouterr() == ("", "")


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    for name in ("none", "pipe", "."):
        with pytest.raises(CheckpointError, match="no such file"):
            keras_file.read(str(tmp_path / name))
