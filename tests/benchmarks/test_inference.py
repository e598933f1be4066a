"""The workers that time networks, and the benchmark of TensorFlow and ONNX Runtime."""

import json

import numpy as np
import pytest

from benchmarks import inference_worker
from empir.export import onnx_files, onnx_graph, onnx_networks
from empir.export.steps import IMAGES
from empir.nn.precision import Precision
from tests.support.quantized import NETWORK, images, steps


@pytest.fixture
def worker(tmp_path):
    """A worker on a folder with one network in one precision."""
    network, graph = steps(Precision(2, 4)), onnx_graph.Graph()
    (logits,), _ = onnx_networks.add_networks(graph, [network], IMAGES, "integer")
    graph.add("Identity", logits, name="logits")
    outputs = [("logits", np.float32, (NETWORK.num_classes,))]
    shape = network.shapes[IMAGES]
    model = onnx_files.finished(graph, "test", shape, outputs, {"made_by": "test"})
    np.save(str(tmp_path / "images.npy"), images(2))
    (tmp_path / "integer").mkdir()
    (tmp_path / "integer" / "member1.onnx").write_bytes(model.SerializeToString())
    return inference_worker.Worker(str(tmp_path), "onnxruntime", 1)


def ask(worker, **command):
    """The answer of a worker."""
    return worker.answer(json.dumps(command))


def test_a_worker_loads_times_and_ends(worker):
    what = dict(network="member1", precision="integer")
    assert ask(worker, do="environment")["versions"]["onnxruntime"] == "1.10.0"
    assert ask(worker, do="load", **what)["resident_mb"] >= 0
    for batch in (1, 5):
        answer = ask(worker, do="run", batch=batch, seconds=0.01, **what)
        assert 0 < answer["milliseconds"] < 1e4
    assert "error" in ask(worker, do="load", network="ensemble", precision="integer")
    assert not worker.done and ask(worker, do="quit") == {} and worker.done
