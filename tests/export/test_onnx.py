"""ONNX files: the levels of the exact arithmetic, TensorFlow's decisions, and refusals."""

import json
import os
import subprocess
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from empir.errors import EmpirError
from empir.export import FORMATS, integer, lowering, onnx_files, onnx_graph, onnx_networks, write
from empir.export.onnx_bytes import Products
from empir.export.steps import IMAGES, Affine, Quantize, Window, steps_of
from empir.nn import Architecture
from empir.nn.precision import Precision, parse_layers
from empir.runtime import keras
from tests.support import ROOT
from tests.support.documented import blocks
from tests.support.quantized import NETWORK, images, steps

#: Every number of bits of weights and of activations, and layers of different precisions.
PRECISIONS = ["w%da%d" % (bits, 9 - bits) for bits in range(1, 9)]
PRECISIONS += ["w8a8", "w1a1", "w2a4", "w4a2", "w2a32", "w32a3", "fp"]
PRECISIONS += ["w2a4/w1a1/w3a5/fp/w8a2/w2a3/w4a4", "w2a32/w2a4/w32a2/w4a8/w6a6/w1a7/w5a3"]


def computed(networks, x, precision="integer"):
    """Logits of each network, and their levels by the names of steps."""
    graph = onnx_graph.Graph()
    logits, levels = onnx_networks.add_networks(graph, networks, IMAGES, precision)
    outputs = [(name, np.float32, (5,)) for name in logits]
    outputs += [
        (tensor, np.uint8, network.shapes[name])
        for network, tensors in zip(networks, levels)
        for name, tensor in tensors.items()
    ]
    outputs = list(dict(zip([name for name, _, _ in outputs], outputs)).values())
    shape = networks[0].shapes[IMAGES]
    model = onnx_files.finished(graph, "test", shape, outputs, {"made_by": "test"})
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {IMAGES: x})
    found = dict(zip([name for name, _, _ in outputs], found))
    named = [{name: found[tensor] for name, tensor in tensors.items()} for tensors in levels]
    return [found[name] for name in logits], named


@pytest.mark.parametrize("text", PRECISIONS)
def test_levels_are_those_of_exact_arithmetic(text):
    network, x = steps(parse_layers(text)), images(3)
    (logits,), (levels,) = computed([network], x)
    # From the graph's own levels on: of those behind a normalisation a few differ.
    exact = integer.run(network, x, levels)
    for step in network.steps:
        if isinstance(step, Quantize) and step.name in levels:
            wanted = integer.quantize(step, exact[step.inputs[0]]).numerators
            differ = levels[step.name] != wanted
            if differ.any():
                scaled = step.steps * np.clip(integer.real(exact[step.inputs[0]]), 0, 1)
                assert after_normalization(network, step), step.name
                assert (np.abs(scaled[differ] % 1 - 0.5) < 0.02 * step.steps).all()
                assert differ.mean() < 0.02
    quantizers = [step for step in network.steps if isinstance(step, Quantize)]
    assert len(levels) == len(quantizers)
    np.testing.assert_allclose(logits, integer.real(exact[network.logits]), 1e-4, 1e-5)


def after_normalization(network, step):
    """Whether a bias or a normalisation is among the steps between the last product and a step."""
    while not isinstance(step, Affine):
        step = network.source(step.inputs[0])
        if step is None or isinstance(step, Quantize):
            return False
    return True


def test_all_sums_of_all_bits_are_rounded_exactly():
    for weights in range(1, 9):
        for activations in range(1, 9):
            denominator = (2**weights - 1) * (2**activations - 1)
            for bits in (1, 2, 3, 5, 8):
                assert lowering.exact_scale(denominator, 2**bits - 1, denominator), bits


def test_a_scale_that_rounds_a_sum_wrongly_is_not_taken():
    assert lowering.exact_scale(10, 5, 10)  # halves, to even
    assert lowering.exact_scale(4 * 255 * 255, 255, 4 * 255 * 255) is None


@pytest.mark.parametrize(
    "size, kernel, window",
    [
        ((8, 6, 3), (5, 5), Window((5, 5), (1, 1), ((2, 2), (2, 2)))),
        ((9, 11, 1), (8, 8), Window((8, 8), (2, 2), ((3, 3), (3, 4)))),
        ((8, 9, 2), (3, 2), Window((3, 2), (2, 1), ((0, 1), (0, 1)))),
        ((7, 7, 1), (3, 3), Window((3, 3), (3, 3), ((0, 0), (0, 0)))),
    ],
)
def test_a_convolution_over_blocks_is_the_same_one(size, kernel, window):
    random = np.random.RandomState(0)
    weights = random.randint(-3, 4, (*kernel, size[2], 4))
    chain = lowering.Chain(
        "x", weights, np.ones(4, np.float32), np.full(4, 100, np.int32), window, 1, (), None, 1,
        255, 1.0, "y"
    )  # fmt: skip
    assert lowering.blocks(weights, window, size[:2]) is not None
    graph = onnx_graph.Graph()
    value = onnx_graph.Value("x", size, denominator=15, levels=True)
    tensor = Products(graph).chain(chain, value)
    x = random.randint(0, 16, (2, *size)).astype(np.uint8)
    found = run_bytes(graph, tensor, x, (*window.outputs(size[:2]), 4))
    sums = integer.windows(x.astype(np.int64), window) @ weights.reshape(-1, 4)
    np.testing.assert_array_equal(found, np.clip(sums + 100, 0, 255))


def run_bytes(graph, tensor, x, shape):
    """The bytes of a tensor of a graph that reads bytes."""
    import onnx
    from onnx import helper, numpy_helper

    kind = onnx.TensorProto.UINT8
    made = helper.make_graph(
        graph.nodes,
        "bytes",
        [helper.make_tensor_value_info("x", kind, ["n", *x.shape[1:]])],
        [helper.make_tensor_value_info(tensor, kind, ["n", *shape])],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    sets = [helper.make_opsetid(*each) for each in onnx_graph.OPERATORS.items()]
    model = helper.make_model(made, opset_imports=sets, ir_version=onnx_files.FILE_VERSION)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folders of MNIST's ensemble in both precisions, and what TensorFlow makes of its images."""
    from empir import front
    from empir.experiments import experiment
    from empir.export import source

    ensemble = front.load_ensemble("mnist", combine="vote")
    data = front.load_dataset("mnist", sample=True).first(200)
    with ensemble.session:
        folders = {}
        for precision in onnx_networks.PRECISIONS:
            folders[precision] = str(tmp_path_factory.mktemp("onnx") / precision)
            read = source.read(ensemble, experiment("mnist"))
            write(read, "onnx", folders[precision], precision=precision)
        return folders, data, ensemble.predict(data.images[:])


@pytest.mark.parametrize("precision", onnx_networks.PRECISIONS)
def test_an_ensemble_decides_as_tensorflow(precision, exported):
    folders, data, wanted = exported
    path = os.path.join(folders[precision], "ensemble.onnx")
    session = onnxruntime.InferenceSession(path)
    found = session.run(None, {IMAGES: data.images[:]})
    found = dict(zip([output.name for output in session.get_outputs()], found))
    assert list(found) == list(onnx_files.ENSEMBLE_OUTPUTS)
    np.testing.assert_array_equal(found["votes"], wanted.members)
    np.testing.assert_array_equal(found["decision"], wanted.decision)
    np.testing.assert_array_equal(found["decision"], found["decision_vote"])
    # A sum of TensorFlow's is rounded to another level in some images.
    near = np.abs(found["member_logits"] - wanted.logits).max(axis=(1, 2)) < 1e-3
    assert near.mean() > 0.95
    np.testing.assert_allclose(found["mean_logits"], found["member_logits"].mean(1), 1e-5, 1e-5)
    alone = [
        onnxruntime.InferenceSession(os.path.join(folders[precision], name))
        for name in sorted(os.listdir(folders[precision]))
        if name.startswith("member")
    ]
    for number, member in enumerate(alone):
        logits, decision = member.run(None, {IMAGES: data.images[:7]})
        np.testing.assert_allclose(logits, found["member_logits"][:7, number], 1e-4, 1e-4)
        np.testing.assert_array_equal(decision, found["votes"][:7, number])


def test_files_say_what_they_are(exported):
    folder = exported[0]["integer"]
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    assert sorted(os.listdir(folder)) == sorted([*config["files"], "config.json"])
    sizes = {name: file["weights"] for name, file in config["files"].items()}
    assert sizes["member1-w2a4.onnx"]["bytes"] == 709_888 + 3 * 1280
    assert sizes["member1-w2a4.onnx"]["packed"] == (709_888 - 1280) // 4 + 4 * 1280
    assert sizes["member3-fp.onnx"]["packed"] == 4 * 709_888
    for name, file in config["files"].items():
        assert os.path.getsize(os.path.join(folder, name)) == file["bytes"]
        assert file["bytes"] < 1.01 * file["weights"]["bytes"] + 20_000
    about = onnxruntime.InferenceSession(os.path.join(folder, "ensemble.onnx")).get_modelmeta()
    texts = about.custom_metadata_map
    assert (texts["combine"], texts["license"], texts["precision"]) == ("vote", "MIT", "integer")
    assert json.loads(texts["members"]) == config["members"]
    assert [len(member["sha256"]) for member in config["members"]] == [64] * 3


def test_the_program_of_the_documentation_needs_onnx_runtime_alone(exported, tmp_path):
    python = os.path.join(ROOT, ".venv-pytorch", "bin", "python")
    if not os.path.exists(python):
        pytest.skip("scripts/pytorch.sh has not made the environment of a current ONNX Runtime")
    folders, data, wanted = exported
    (program,) = [
        block.text
        for block in blocks("python")
        if block.page == "docs/deploy.md" and "onnxruntime" in block.text
    ]
    (tmp_path / "runs").mkdir()
    os.symlink(folders["integer"], str(tmp_path / "runs" / "mnist-onnx"))
    np.save(str(tmp_path / "images.npy"), data.images[:20])
    program += '\nnp.save("decisions.npy", found["decision"])\n'
    subprocess.run([python, "-I", "-c", program], cwd=str(tmp_path), check=True)
    np.testing.assert_array_equal(np.load(str(tmp_path / "decisions.npy")), wanted.decision[:20])


def test_the_vote_breaks_ties_as_the_ensemble_does():
    from empir.models.ensemble import vote
    from empir.runtime import tf

    random = np.random.RandomState(0)
    logits = random.normal(size=(4, 50, 3)).astype(np.float32)

    class Source:
        reference, combine, temperature = 2, "vote", 1
        network = replace(NETWORK, num_classes=3)

    graph = onnx_graph.Graph()
    names = [graph.add("Identity", array, name=f"logits{i}") for i, array in enumerate(logits)]
    onnx_files.add_decisions(graph, names, Source)
    model = onnx_files.finished(
        graph, "votes", (1,), [("decision", np.int64, ())], {"made_by": "test"}
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {IMAGES: np.zeros((50, 1), np.float32)})
    with tf.Session() as tensorflow:
        decisions = [tf.constant(each.argmax(1)) for each in logits]
        np.testing.assert_array_equal(found, tensorflow.run(vote(decisions, 3, 2)))


@pytest.mark.parametrize("text, what", [("w9a4", "weights of 9"), ("w4a12", "activations of 12")])
def test_more_than_8_bits_are_refused_by_the_name_of_the_layer(text, what):
    network = steps(parse_layers(text))
    with pytest.raises(EmpirError, match=f"the layer conv1 has {what} bits.*--precision=float"):
        onnx_networks.add_networks(onnx_graph.Graph(), [network], IMAGES, "integer")
    (logits,), (levels,) = computed([network], images(2), "float")
    assert not levels
    exact = integer.real(integer.run(network, images(2))[network.logits])
    assert np.abs(logits - exact).max() < 0.05 * np.abs(exact).max()


def test_a_layer_that_draws_at_random_is_named():
    model = NETWORK.build(Precision(2, 2), trainable=False, stochastic_rounding=True)
    with pytest.raises(EmpirError, match="the layer conv1 .*draws at random"):
        steps_of(model, {}, {})


def test_an_unknown_layer_is_named():
    def layers(build, x, f):
        x = keras.layers.LeakyReLU(name="leaky")(x)
        return build.linear(build.flatten(x), "logits", 5)

    model = Architecture("Leaky", layers, (4, 4, 1), 5, (), 4).build(())
    with pytest.raises(EmpirError, match="the layer leaky cannot be exported: it is a LeakyReLU"):
        steps_of(model, {}, {})


def test_options_of_other_formats_are_refused(tmp_path):
    assert FORMATS["onnx"].options == ("precision",)
    with pytest.raises(EmpirError, match="--precision is not for the format pytorch"):
        write(None, "pytorch", str(tmp_path / "out"), precision="float")
    with pytest.raises(EmpirError, match="precision='int4': choose from float, integer"):
        write(None, "onnx", str(tmp_path / "out"), precision="int4")
    assert not os.listdir(str(tmp_path))
