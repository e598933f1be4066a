"""Tables of what ensembles take beside one network."""

import json
import os

import pytest

from benchmarks.pages import inference


def cell(system, network, precision, milliseconds, threads=1, batch=100):
    """A cell of the record."""
    return dict(system=system, network=network, precision=precision, threads=threads, batch=batch,
                milliseconds=milliseconds)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A dataset's folder of results beside a record."""
    cells = [
        cell("onnxruntime", "baseline", "float", [10.0, 20.0, 10.0]),
        cell("onnxruntime", "ensemble", "integer", [15.0, 32.0, 16.0]),
        cell("onnxruntime", "ensemble", "float", [30.0]),
        cell("onnxruntime-1.10", "baseline", "float", [10.0]),
        cell("onnxruntime-1.10", "ensemble", "integer", [17.0]),
        cell("onnxruntime", "member1", "integer", [2.5]),
        cell("onnxruntime", "ensemble", "integer", [9.0], threads=2),
    ]
    sizes = {
        "ensemble, integer": dict(float32=2**22, bytes=2**21, packed=2**20, file=2**21)
    }
    network = dict(members=["w2a4", "w2a4", "fp"], cells=cells, bytes=sizes)
    network["resident_mb"] = {"ensemble, integer, onnxruntime": 7.25}
    record = {"networks": {"MNISTconv": network}}
    (tmp_path / "inference.json").write_text(json.dumps(record))
    return os.path.join(str(tmp_path), "mnist")


def test_the_overhead_is_over_the_full_precision_member_in_the_same_runtime(folder):
    lines = inference.overheads(folder, None).splitlines()
    assert lines[0] == "| system | MNISTconv, 1 thread | MNISTconv, 2 threads |"
    assert lines[2] == "| current ONNX Runtime, integers | +60 % | - |"
    assert lines[4] == "| current ONNX Runtime, float32 | +200 % | - |"
    assert "< 25 %" in lines[8] and "inference.svg" in lines[-1]


def test_times_are_per_image(folder):
    rows = inference.milliseconds(folder, None)
    assert "| MNISTconv | ensemble | current ONNX Runtime, integers | 0.16 |" in rows
    assert "| MNISTconv | member w2a4 | current ONNX Runtime, integers | 0.025 |" in rows


def test_memory_is_that_of_weights_file_and_process(folder):
    row = "| MNISTconv | ensemble, integer | 4 | 2 | 1 | 2 | - | 7.25 |"
    assert row in inference.memory(folder, None)


def test_a_sentence_says_what_integers_take(folder, tmp_path):
    assert "it takes longer by 60 to 70 % on MNISTconv." in inference.sentence(folder, None)
    missing = os.path.join(str(tmp_path), "none", "mnist")
    assert "not been measured" in inference.sentence(missing, None)
    for table in (inference.overheads, inference.milliseconds, inference.memory):
        assert table(missing, None) == inference.MISSING


def test_the_figure_is_the_same_for_the_same_record(folder, tmp_path):
    paths = [str(tmp_path / name) for name in ("one.svg", "two.svg")]
    for path in paths:
        inference.plot(folder, path)
    first, second = (open(path, "rb").read() for path in paths)
    assert first == second and b"MNISTconv" in first
