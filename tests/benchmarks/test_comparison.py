"""The benchmark's turns, its record, and the tables that the pages take from it."""

import functools
import json
import os
import sys

import pytest

from benchmarks import comparison, convolution_worker, speed, startup, worker_process
from benchmarks.pages import speed as report
from empir.errors import EmpirError
from empir.experiments import experiment
from tests.support import ROOT
from tests.support.kills import killed_runs
from tests.support.scripts import assert_refused

pytestmark = pytest.mark.slow  # it starts processes

ENSEMBLE = comparison.MODELS[1]
PACE = comparison.Pace(repeats=4, budget=0.0, limit=60.0)


class Fake:
    """A worker whose calls take as long as it is told, and which keeps a log of them."""

    def __init__(self, name, seconds, log, passes=None, logits=0.0):
        self.name = name
        self._seconds = iter(seconds)
        self._log = log
        self._passes = passes
        self._logits = logits

    def ask(self, do, **arguments):
        """As `WorkerProcess.ask`."""
        self._log.append((self.name, do))
        if do == "logits":
            return {"logits": [[0.0, self._logits]] * 10}
        if do == "prepare":
            if self.name == "torchattacks" and arguments["parameters"].get("binary_search_steps"):
                return {"available": False, "reason": "no search"}
            return {"available": True, "seconds": 0.5}
        if do in ("gemm", "convolutions"):
            return {"seconds": 0.1}
        return {
            "seconds": next(self._seconds),
            "peak_memory_mb": 400.0,
            "forward_passes": self._passes,
            "success": 1.0,
        }


def fakes(log):
    """Four systems: first calls of 9 s, then turns of which this project's takes 1 s.

    And what times convolutions.
    """
    names = ("pytorch convolutions", "onnxruntime convolutions")
    return {
        **{name: Fake(name, [], log) for name in names},
        "empir": Fake("empir", [9, 1.0, 1.0, 1.0], log),
        "cleverhans": Fake("cleverhans", [9, 4.0, 5.0, 6.0], log),
        "foolbox": Fake("foolbox", [9, 2.0, 1.9, 2.1], log, passes=40),
        "torchattacks": Fake("torchattacks", [9, 0.5, 0.5, 0.5], log, passes=5),
    }


def test_systems_take_turns_after_a_first_call():
    log = []
    cell = comparison.measure_attack(fakes(log), ENSEMBLE, "pgd", 100, PACE)
    calls = [name for name, do in log if do == "run"]
    turn = ["empir", "cleverhans", "foolbox", "torchattacks"]
    # A first call, and as there is no time left the least number of turns, each begun by another.
    assert calls == turn + turn + turn[1:] + turn[:1] + turn[2:] + turn[:2]
    assert cell["systems"]["cleverhans"]["seconds"] == [4.0, 5.0, 6.0]
    assert cell["systems"]["cleverhans"]["first"] == 9
    assert cell["parameters"]["nb_iter"] == 40
    # Three members, 40 steps, a forward pass and a gradient of 8,586,496 multiplications
    # (docs/original.md, Networks).
    assert cell["gflop"] == pytest.approx(3 * 40 * 2 * 2 * 8586496 * 100 / 1e9)
    for name in ("gemm_gflops", "pytorch_gemm_gflops"):
        assert cell[name] == pytest.approx([2 * 2048**3 / 0.1 / 1e9] * 3)
    # Four layers of 256 to 256 channels, 3x3, on 4 images of 28, 26, 24 and 22 pixels a side.
    convolved = 2 * 4 * 9 * 256**2 * (28**2 + 26**2 + 24**2 + 22**2) / 0.1 / 1e9
    for name in ("pytorch_convolution_gflops", "onnxruntime_convolution_gflops"):
        assert cell[name] == pytest.approx([convolved] * 3)


def test_a_very_long_attack_is_measured_once():
    log = []
    cell = comparison.measure_attack(fakes(log), ENSEMBLE, "cw-9", 100, PACE)
    assert [name for name, do in log if do == "run"] == ["empir", "cleverhans", "foolbox"]
    assert cell["systems"]["empir"]["seconds"] == [9]
    assert cell["systems"]["torchattacks"] == {"unavailable": "no search"}
    assert not cell["parameters"]["abort_early"]


def test_systems_must_compute_the_same_logits():
    workers = {"empir": Fake("empir", [], []), "foolbox": Fake("foolbox", [], [], logits=1e-3)}
    assert comparison.same_logits(workers)["foolbox"] == {"max": 1e-3, "images": 10}
    workers["foolbox"] = Fake("foolbox", [], [], logits=0.1)
    with pytest.raises(EmpirError, match="foolbox computes other logits, by up to 0.1"):
        comparison.same_logits(workers)


def test_the_convolutions_of_a_file_are_those_whose_arithmetic_is_counted(tmp_path):
    path = str(tmp_path / comparison.CONVOLUTIONS)
    convolution_worker.write(path)
    outputs = convolution_worker.onnxruntime_call(path, 1)()
    assert outputs.shape == (4, 256, 22, 22)
    assert outputs.std() == pytest.approx(1, rel=0.1)  # nothing grows or vanishes


@pytest.fixture
def store(tmp_path):
    """A record on disk."""
    os.makedirs(str(tmp_path / "benchmark"))
    return comparison.Store(str(tmp_path / "benchmark" / "comparison.json"))


@pytest.fixture
def measured(store, monkeypatch):
    """The same with attacks on the MNIST ensemble."""
    for name in ("pgd", "cw-9"):
        cell = comparison.measure_attack(fakes([]), ENSEMBLE, name, 100, PACE)
        store.put("attacks", cell, "mnist-ensemble/%s/100" % name)
    rates = {"empir": [300.0, 330.0], "cleverhans": [150.0, 150.0], "foolbox": [400.0, 300.0]}
    store.put("training", rates, "mnist/w2a4")
    store.put("startup", {"total": 3.0, "parts": {"python": 0.02, "graph": 2.98}})
    return store


def measure_twice(path):
    """Two measurements into a record, as a benchmark makes them: those that are there are kept."""
    store = comparison.Store(path)
    for key in ("mnist/a", "mnist/b"):
        if key not in store.section("training"):
            store.put("training", {"empir": [1.0]}, key)


def test_a_benchmark_that_is_killed_anywhere_goes_on_to_the_same_record(tmp_path, monkeypatch):
    whole, points = tmp_path / "whole" / "record.json", 0
    measure_twice(str(whole))

    def path(number):
        return tmp_path / str(number) / "record.json"

    for number in killed_runs(monkeypatch, lambda number: measure_twice(str(path(number)))):
        points += 1
        measure_twice(str(path(number)))
        assert path(number).read_bytes() == whole.read_bytes()
        assert os.listdir(str(path(number).parent)) == ["record.json"]
    assert points == 3  # the folder, and each writing of the record


def test_a_record_is_continued_in_the_same_environment_only(measured):
    again = comparison.Store(measured.path)
    assert again.record == measured.record
    with open(measured.path, "w") as file:
        json.dump(dict(measured.record, processor="an abacus"), file)
    with pytest.raises(EmpirError, match="was measured elsewhere .*abacus"):
        comparison.Store(measured.path)


@pytest.mark.parametrize("wrong", [{"attacks": []}, {"git_commits": None}, {"startup": "soon"}])
def test_a_record_of_another_shape_is_refused(store, wrong):
    with open(store.path, "w") as file:
        json.dump(dict(store.record, **wrong), file)
    with pytest.raises(EmpirError, match="no sound %s: it is no record of" % list(wrong)[0]):
        comparison.Store(store.path)
    os.unlink(store.path)
    os.mkfifo(store.path)
    with pytest.raises(EmpirError, match="comparison.json is unreadable .not a regular file"):
        comparison.Store(store.path)


def test_finished_measurements_are_kept_and_long_ones_left_out(measured, monkeypatch):
    monkeypatch.setattr(worker_process, "started", lambda commands: pytest.fail("nothing to do"))
    measure = functools.partial(comparison.measure_attacks, measured, ENSEMBLE, {}, pace=PACE)
    measure(names=["pgd", "cw-9"], batch_size=100)
    # First calls took 36 s in batches of 100; 200 would take 72 s, which is over the limit of 60.
    measure(names=["pgd"], batch_size=200)
    skipped = measured.section("attacks")["mnist-ensemble/pgd/200"]
    assert skipped == {"skipped": "would take about 72 s"}


def test_shares_are_of_the_best_rate_in_the_record(measured):
    cell = dict(measured.section("attacks")["mnist-ensemble/pgd/100"])
    cell.update(gemm_gflops=[200.0], pytorch_convolution_gflops=[390.0, 410.0, 400.0])
    assert report.best_rate(cell) == (400.0, "convolutions, PyTorch")
    early = {name: cell[name] for name in ("gemm_gflops", "pytorch_gemm_gflops")}
    assert report.best_rate(early) == (200.0, "matrix products, TensorFlow")


def rows(markdown):
    """Cells of a table's rows below its head."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in markdown.split("\n")[2:]
    ]


def test_the_table_has_times_ratios_and_the_share_of_matrix_products(measured, tmp_path):
    pgd, search = rows(report.attacks_markdown(str(tmp_path / "mnist"), None))
    # torchattacks did 5 of 40 steps: starred, and not the fastest peer.
    assert pgd[:5] == ["MNIST, ensemble, PGD-40", "10", "50", "20", "5\\*"]
    assert pgd[5:8] == ["2.00 (1.90-2.10)", "5.00 (4.00-6.00)", "1.00"]
    share = 3 * 40 * 4 * 8586496 * 100 / 1e9 / 1.0 / (2 * 2048**3 / 0.1 / 1e9)
    assert pgd[8:] == ["%.2f" % share, "400"]
    assert search[0] == "MNIST, ensemble, CW-50, 9 search steps"
    assert search[4] == "-"


def test_compiled_pytorch_is_a_column_where_it_was_measured_and_can_be_the_fastest(
    measured, tmp_path
):
    key = "mnist-ensemble/pgd/100"
    pgd = measured.section("attacks")[key]
    compiled = dict(pgd["systems"]["foolbox"], seconds=[1.5, 1.6, 1.4], forward_passes=None)
    pgd["systems"]["compiled"] = compiled
    measured.put("attacks", pgd, key)
    pgd, search = rows(report.attacks_markdown(str(tmp_path / "mnist"), None))
    assert pgd[4:7] == ["5\\*", "15", "1.50 (1.40-1.60)"]
    assert search[5] == "-"


def test_ratios_by_batch_size_are_of_the_fastest_peer_and_cleverhans(measured, tmp_path):
    table = {row[0]: row[1:] for row in rows(report.batches_markdown(str(tmp_path / "m"), None))}
    assert table["MNIST, ensemble, PGD-40"] == ["2.00 / 5.00"]
    assert table["MNIST, ensemble, FGSM"] == ["-"]


def test_training_and_start_up_tables(measured, tmp_path):
    folder = str(tmp_path / "mnist")
    assert rows(report.training_markdown(folder, None)) == [
        ["mnist, w2a4", "315", "150", "2.10", "350", "0.93"]
    ]
    assert rows(report.startup_markdown(folder, None))[-1] == ["whole", "3.00"]


def test_the_plot_is_drawn_the_same_twice(measured, tmp_path):
    paths = [str(tmp_path / name) for name in ("a.svg", "b.svg")]
    for path in paths:
        report.plot(str(tmp_path / "mnist"), path)
    first, second = [open(path).read() for path in paths]
    assert first == second and "<!-- this project -->" in first
    assert first.count("<path") > 50


def test_the_account_of_a_single_image_has_its_own_record_and_more_digits(tmp_path):
    folder, mnist = str(tmp_path / "mnist"), experiment("mnist")
    assert report.one_image_markdown(folder, mnist) == "This has not been measured yet."
    profile = {"milliseconds": {"pools": 0.126}, "step": 0.5}
    record = {"batch_size": 1, "layers": profile, "engine": dict(profile, step=0.4)}
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "account-mnist-one.json").write_text(json.dumps(record))
    assert rows(report.one_image_markdown(folder, mnist)) == [
        ["pools", "0.13", "0.13"],
        ["whole step, not traced", "0.50", "0.40"],
    ]


def test_start_up_is_the_sum_of_its_parts():
    stages = dict(zip(startup.STAGES, [0.1, 0.2, 1.6, 1.7]))
    found = startup.parts(stages, {"build": 0.3, "clean": 0.2, "attack": 0.1}, 4.0)
    assert sum(found.values()) == pytest.approx(4.0)
    assert found["import tensorflow, keras and cleverhans"] == pytest.approx(1.4)
    assert found["data, members and the record"] == pytest.approx(1.7)


def test_start_up_takes_the_median_of_what_the_timed_turns_record(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys\n"
        "out = sys.argv[-1].split('=')[1]\n"
        "os.makedirs(out)\n"
        "turn = int(os.path.basename(out))\n"
        "seconds = {'build': [9, 3, 1, 2][turn], 'clean': 0, 'attack': 0}\n"
        "json.dump({'seconds': seconds}, open(os.path.join(out, 'result.json'), 'w'))\n"
    )
    monkeypatch.setattr(startup, "STAGES", {"python": "pass"})
    monkeypatch.setattr(startup, "example", lambda attack: [sys.executable, str(script)])
    found = startup.measure(None, 3)
    assert found["parts"]["graph"] == 2
    assert sum(found["parts"].values()) == pytest.approx(found["total"])


@pytest.mark.parametrize(
    "line, says",
    [
        ("--pytorch=nowhere/python", "no program nowhere/python: scripts/pytorch.sh makes it"),
        ("--pytorch=setup.py", "no program setup.py"),
        ("--pytorch=%s --batch_sizes=" % sys.executable, "--batch_sizes=: integers of 1..999999"),
        ("--pytorch=%s --out=" % sys.executable, "--out= is empty"),
        ("--num_threads=-1", "num_threads"),
        (
            "--pytorch=%s --data_dir=tests --out=runs/none" % sys.executable,
            "tests/mnist",
        ),
        ("--pytorch=%s --batch_sizes=100,many" % sys.executable, "--batch_sizes=100,many"),
        ("--pytorch=%s --attacks=pgd,eot" % sys.executable, "--attacks=eot: choose from fgsm, bim"),
        ("--pytorch=%s --out=setup.py/x" % sys.executable, "is not a writable folder"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_measured(benchmark, line, says):
    assert_refused(benchmark(speed, line), says)
    assert not os.path.exists(os.path.join(ROOT, "runs", "none"))


@pytest.mark.parametrize(
    "ending, says",
    [("sys.exit('no such luck')", "no such luck"), ("sys.exit(1)", "it ended without a message")],
)
def test_a_system_that_dies_is_named(ending, says):
    command = [sys.executable, "-c", f"import sys; {ending}"]
    with pytest.raises(EmpirError, match=f"^foolbox, asked to logits: {says}$"):
        with worker_process.started({"foolbox": command}) as workers:
            workers["foolbox"].ask("logits")
