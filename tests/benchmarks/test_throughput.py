"""An attack's rate, and the time of each kind of operation in a step of it."""

import json
import os
from dataclasses import replace

import pytest

from benchmarks import step_profile, throughput
from benchmarks.pages import speed as report
from empir.experiments import EXPERIMENTS
from tests.support import ROOT
from tests.support.scripts import assert_refused

pytestmark = pytest.mark.slow  # it computes attacks


def test_calls_take_turns_and_the_median_counts(monkeypatch):
    clock, made = [0.0], []
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock[0])

    def call(name, durations):
        durations = iter(durations)

        def run():
            made.append(name)
            clock[0] += next(durations)

        return run

    # The first turn is not timed.
    calls = [call("a", [100, 3, 1, 2]), call("b", [100, 10, 30, 20])]
    assert throughput.median_seconds_in_turns(calls, 3) == [2, 20]
    assert made == ["a", "b"] * 4


def test_an_attack_is_timed(monkeypatch):
    monkeypatch.setattr(throughput, "GEMM_SIZE", 64)
    record = throughput.measure(EXPERIMENTS["mnist"], "fgsm", "whitebox", 5, 1)
    assert record["images_per_second"] > 0 and 0 < record["share_of_gemm"]
    assert record["architecture"] == "MNISTconv" and json.dumps(record)


@pytest.mark.parametrize(
    "line, says",
    [
        ("--attack=jsma", "--attack=jsma: choose from cw, fgsm, bim, pgd"),
        ("--protocol=honest", "--protocol=honest"),
        ("--out=scripts.py/result.json", "is not a writable folder"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_measured(benchmark, line, says):
    folder = os.path.join(ROOT, "tests", "support")
    assert_refused(benchmark(throughput, line, folder), says)


@pytest.mark.parametrize("dataset, pools", [("mnist", False), ("cifar10", True)])
def test_a_profile_names_what_a_step_consists_of(dataset, pools):
    chosen = replace(EXPERIMENTS[dataset], nb_iter=3)
    spent = step_profile.measure(chosen, 2, engine=True)["milliseconds"]
    assert {"convolutions, forward", "convolutions, input gradient", "matrix products"} < set(spent)
    assert ("pools" in spent) == pools
    assert all(value > 0 for value in spent.values())
    record = {"engine": {"milliseconds": spent}, "layers": {"milliseconds": {"pools": 9.0}}}
    assert list(report.operations(record).items())[0] == ("pools", (9.0, spent.get("pools", 0.0)))


@pytest.mark.parametrize(
    "label, kind",
    [
        ("while/a = _MklConv2D(while/b, c)", "convolutions, forward"),
        ("_MklToTf", "layout changes"),
        ("x = RealDiv(y, z)", step_profile.OTHER),
        ("while/call = PartitionedCall(x)", None),
    ],
)
def test_operations_are_counted_by_kind_and_calls_not(label, kind):
    assert step_profile.operation_kind(label, label) == kind
