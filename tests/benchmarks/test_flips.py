"""How many outcomes change with the computation: counted, kept beside the record, and checked."""

import json

import numpy as np
import pytest

from benchmarks import flips
from benchmarks.pages import flips as report
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.records import provenance
from tests.support.scripts import remove_flags

MNIST = EXPERIMENTS["mnist"]
SUCCESS = {"none": [1, 1, 0, 0, 1], "kernels": [1, 0, 1, 0, 0], "seed": [1, 1, 0, 0, 1]}
WORDS = ["flips", "--dataset=mnist", "--nb_samples=5", "--changes=kernels,seed"]


@pytest.fixture
def made(monkeypatch):
    """Attacks that are not run: their outcomes are `SUCCESS`; yields the changes asked for."""
    asked = []

    def attack(chosen, protocol, change, folder, count):
        asked.append((protocol, change))
        told = dict(members=[], attack=dict(name="pgd", eps=0.3, eps_iter=0.01, nb_iter=40))
        told.update(num_examples=count, data={"sha256": "a"}, versions={}, git_commit=None)
        return flips.Outcomes(told, np.array(SUCCESS[change], bool))

    monkeypatch.setattr(flips, "attack", attack)
    run = flips.setup()
    yield lambda *words: (flips.FLAGS(WORDS + list(words)), run(None), asked)[2]
    remove_flags()


def test_outcomes_that_change_are_counted_and_kept(made, tmp_path, capsys, monkeypatch):
    path = tmp_path / "flips" / "mnist.json"
    path.parent.mkdir()
    assert made(f"--out={path}")[:3] == [(p, c) for p in ("paper",) for c in SUCCESS]
    record, kept = report.read(str(path))
    told = dict(images=5, accuracy=0.4, changed_accuracy=0.6, flips=3, now_correct=2)
    assert {name: record["changes"][0][name] for name in told} == pytest.approx(told)
    assert [row["flips"] for row in record["changes"]] == [3, 0, 3, 0]
    np.testing.assert_array_equal(kept["whitebox none"], np.array(SUCCESS["none"], bool))
    row = "not by the engine | paper | 5 | 40.00 | 60.00 | 3 | 2 |"
    assert row in report.markdown(str(tmp_path / "mnist"), MNIST)
    made("--out=", f"--against={path}")
    assert "another machine, or other versions" in capsys.readouterr().out
    beside = tmp_path / "flips" / "mnist-machine.json"
    monkeypatch.setitem(SUCCESS, "none", [0, 1, 0, 0, 1])
    made(f"--out={beside}", f"--against={path}")
    record, kept = report.read(str(beside))
    assert [row["flips"] for row in record["changes"]] == [1, 1]
    np.testing.assert_array_equal(kept["paper none"], np.array([1, 1, 0, 0, 1], bool))
    np.testing.assert_array_equal(kept["paper machine"], np.array(SUCCESS["none"], bool))
    title = "another machine, or other versions: "
    title += f"{provenance.processor()}, not {provenance.processor()}"
    assert f"{title} | paper | 5 | 40.00 | 60.00 | 1 | 1 |" in report.markdown(
        str(tmp_path / "mnist"), MNIST
    )


@pytest.mark.parametrize("damage", ["count", "array", "missing"])
def test_a_record_that_its_outcomes_contradict_is_refused(damage, made, tmp_path):
    path = tmp_path / "mnist.json"
    made(f"--out={path}")
    record, beside = json.loads(path.read_text()), tmp_path / "mnist.npz"
    if damage == "count":
        record["changes"][0]["flips"] += 1
    elif damage == "array":
        beside.write_bytes(b"no file of NumPy's")
    else:
        record["changes"][0]["change"] = "threads"
    path.write_text(json.dumps(record))
    with pytest.raises(EmpirError, match="make both anew|unreadable"):
        report.read(str(path))


@pytest.mark.parametrize(
    "words, says",
    [
        ([], "give --out, .* or --against"),
        (["--out=a.json", "--against=b.json"], "b.json"),
        (["--out=a.json", "--changes=weather"], "--changes=weather: choose from kernels"),
        (["--out=a.json", "--changes=seed,batch-20"], "batch-20 needs --nb_samples=20 or more"),
    ],
)
def test_bad_input_is_refused(words, says, made):
    with pytest.raises(EmpirError, match=says):
        made(*words)


@pytest.mark.slow  # it starts a process
def test_an_attack_is_run_as_the_change_says(monkeypatch, tmp_path):
    """Without data and a network it takes the images of the repository."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    flips.setup()
    try:
        flips.FLAGS(WORDS)
        found = flips.attack(MNIST, "whitebox", "kernels", str(tmp_path), 2)
    finally:
        remove_flags()
    assert found.record["engine"] is False and found.record["protocol"] == "whitebox"
    assert found.record["batch_size"] == 2 and len(found.success) == 2
