"""What ensembles cost is counted by the stated rules, and the record in results/ is that count."""

import json
import os
import re

import pytest

from empir.commands.cost import parse_members
from empir.experiments import EXPERIMENTS
from empir.nn import architecture, cost
from empir.nn.precision import FULL, Precision
from empir.report import cost as report
from tests.support import ROOT
from tests.support.scripts import assert_refused

RECORD = os.path.join(ROOT, "results", "cost.json")


@pytest.fixture
def run(empir_command):
    """Run the command in this process: line -> as of a process."""
    return lambda line: empir_command("cost " + line)


def network(name, layers_precision=FULL, nb_filters=None):
    """Layer costs of a network by layer name, and their sum."""
    rows = cost.network_costs(architecture(name), layers_precision, nb_filters)
    return {row.layer: row for row in rows}, cost.total([row.cost for row in rows])


def ensemble(chosen, members=None, nb_filters=None):
    """Cost of members, by default the paper's, of an experiment's architecture."""
    network = architecture(chosen.architecture)
    return cost.ensemble_cost(network, members or chosen.members, nb_filters)


@pytest.fixture(scope="module")
def paper():
    """The paper's three ensembles."""
    return {name: ensemble(chosen) for name, chosen in EXPERIMENTS.items()}


@pytest.mark.parametrize(
    "name, count",
    # docs/original.md, Paper
    [("MNISTconv", 8586496), ("CIFARconv", 10763904), ("AlexNet", 1937082368)],
)
def test_multiplications_of_a_forward_pass(name, count, session):
    assert cost.multiplications(architecture(name).build()) == count


@pytest.mark.slow
@pytest.mark.parametrize(
    "dataset, parameters, quantized, memory, rule_a, rule_b",  # docs/original.md, Paper
    [
        ("mnist", 709888, 708608, 12.8, 1.6, 25.0),
        ("cifar10", 116704, 79200, 77.0, 1.9, 19.4),
        ("imagenet", 61284200, 56823808, 31.9, 14.7, 30.4),
    ],
)
def test_the_papers_ensembles(paper, dataset, parameters, quantized, memory, rule_a, rule_b):
    found = paper[dataset]
    assert [m["parameters"] for m in found["members"]] == [parameters] * 3
    assert [m["quantized_parameters"] for m in found["members"]] == [quantized, quantized, 0]
    percent = found["overhead_percent"]
    assert round(percent["weight_bytes"], 1) == memory
    assert round(percent["bit_operations"], 1) == rule_a
    assert round(percent["scaled_multiplications"], 1) == rule_b
    assert percent["parameters"] == percent["multiplications"] == 200


def test_the_overhead_is_what_the_low_precision_members_add(paper):
    for ensemble in paper.values():
        full, members = ensemble["full_precision"], ensemble["members"]
        assert members[2]["precision"] == "fp"
        for name, percent in ensemble["overhead_percent"].items():
            assert full[name] == members[2][name]
            added = members[0][name] + members[1][name]
            assert percent == pytest.approx(100 * added / full[name], abs=1e-4)


def test_a_tiny_network_by_hand():
    # One filter: 28x28x1 -> conv 8x8/2 SAME, 14x14x1 -> conv 6x6/2, 5x5x2 -> conv 5x5, 1x1x2 -> 10.
    rows, total = network("MNISTconv", Precision(3, 5), nb_filters=1)
    weights = {"conv1": 64, "conv2": 72, "conv3": 100, "logits": 20}
    products = {"conv1": 64 * 196, "conv2": 72 * 25, "conv3": 100, "logits": 20}
    assert {name: row.cost.parameters for name, row in rows.items() if row.weight_bits} == weights
    for name in weights:
        row = rows[name]
        assert row.cost.multiplications == products[name]
        if name != "logits":
            assert (row.weight_bits, row.activation_bits) == (3, 5)
            assert row.cost.weight_bytes == {"conv1": 24, "conv2": 27, "conv3": 38}[name]  # 37.5
            assert row.cost.bit_operations == 15 * products[name]
            assert row.cost.scaled_multiplications == products[name] * 5 / 32
    assert rows["conv2"].output_shape == (5, 5, 2) and rows["conv2"].kind == "QuantConv2D"
    assert rows["logits"].cost == (20, 0, 80, 20, 20 * 1024, 20)
    sums = (256, 236, 24 + 27 + 38 + 80, 14464, 15 * 14444 + 20480, 14444 * 5 / 32 + 20)
    assert total == pytest.approx(sums)


def test_biases_and_normalisations_take_four_bytes_and_statistics_are_counted():
    rows, _ = network("AlexNet", Precision(1, 2), nb_filters=2)
    assert rows["bn2"].cost == cost.Cost(parameters=4 * 16, weight_bytes=4 * 4 * 16)
    assert (rows["bn2"].weight_bits, rows["bn2"].activation_bits) == (32, None)
    assert rows["conv1_bias"].cost == cost.Cost(54 * 54 * 6, weight_bytes=4 * 54 * 54 * 6)
    kernel = 6 * 6 * 16 * 4096
    assert rows["fc6"].cost[:4] == (kernel + 4096, kernel, kernel // 8 + 4 * 4096, kernel)
    assert rows["pool2"].cost == rows["relu2"].cost == cost.Cost()
    assert rows["pool2"].weight_bits is None


def test_grouped_convolutions_multiply_their_part_of_the_input_only():
    rows, _ = network("AlexNet", nb_filters=2)
    kernel = 5 * 5 * (6 // 2) * 16
    assert rows["conv2"].cost[:4] == (kernel, 0, 4 * kernel, kernel * 54 * 54)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_networks_of_full_precision_cost_one_each(count):
    chosen = EXPERIMENTS["cifar10"]
    counted = ensemble(chosen, [("fp", FULL)] * count, nb_filters=3)
    assert set(counted["overhead_percent"].values()) == {100 * (count - 1)}
    assert counted["nb_filters"] == 3


@pytest.mark.slow
def test_fewer_bits_of_either_kind_never_cost_more():
    bits = (32, 31, 8, 2, 1)
    for fixed in (32, 4):
        for order in (lambda b: Precision.of(b, fixed), lambda b: Precision.of(fixed, b)):
            totals = [network("CIFARconv", order(b), nb_filters=2)[1] for b in bits]
            for more, fewer in zip(totals, totals[1:]):
                assert all(f <= m for f, m in zip(fewer[2:], more[2:]))
                assert fewer.bit_operations < more.bit_operations


def test_layers_have_their_own_bits():
    layers = (Precision(2, 4), FULL, Precision.of(32, 3))
    rows, total = network("MNISTconv", layers, nb_filters=2)
    bits = {row.layer: (row.weight_bits, row.activation_bits) for row in rows.values()}
    assert (bits["conv1"], bits["conv2"], bits["conv3"]) == ((2, 4), (32, 32), (32, 3))
    assert bits["logits"] == (32, 32)
    assert total.quantized_parameters == rows["conv1"].cost.parameters
    assert rows["conv3"].cost.scaled_multiplications == rows["conv3"].cost.multiplications


def test_a_members_path_is_ignored():
    items = ["w2a4:checkpoints/mnist/model1", "w2a4/fp:C:/x", "fp"]
    assert [text for text, _ in parse_members(items)] == ["w2a4", "w2a4/fp", "fp"]


def test_the_command_prints_tables_and_writes_the_same_numbers(run, tmp_path):
    folder = str(tmp_path / "new")
    members = "w4a2:some/path,w2a2/fp/w1a3,w4a2,fp"
    line = "--dataset=cifar10 --members=%s --nb_filters=4 --layers --out=%s" % (members, folder)
    process = run(line)
    assert process.returncode == 0, process.stderr
    with open(os.path.join(folder, "cost.json")) as file:
        record = json.load(file)
    assert process.stdout == report.terminal(record["ensembles"]["cifar10"]) + "\n"
    assert {"command", "versions", "git_commit"} < set(record)
    assert record["command"] == "empir cost " + line
    ensemble = record["ensembles"]["cifar10"]
    assert [m["name"] for m in ensemble["members"]] == ["w4a2", "w2a2/fp/w1a3", "w4a2", "fp"]
    for name, value in ensemble["ensemble"].items():
        assert value == sum(member[name] for member in ensemble["members"])
        for member in ensemble["members"]:
            assert member[name] == sum(layer[name] for layer in member["layers"])
    # The ensemble, then the layers of each precision once; every table's lines are of one length.
    tables = process.stdout.rstrip("\n").split("\n\n")
    assert [text.split()[:2] for text in tables[1:]] == [
        ["CIFARconv", name] for name in ("w4a2", "w2a2/fp/w1a3", "fp")
    ]
    assert all(len({len(line) for line in text.split("\n")}) == 1 for text in tables)
    conv3 = re.search("^conv3 .*$", tables[2], re.MULTILINE).group().split()
    assert conv3[1:] == ["QuantConv2D", "7x7x8", "800", "1", "3", "39,200", "100"]


def test_the_paper_s_claim_stands_beside_the_overhead(paper):
    lines = report.terminal(paper["imagenet"]).split("\n")
    assert lines[-2].split()[-5:] == ["+200.0", "+31.9", "+200.0", "+14.7", "+30.4"]
    assert lines[-1].split("claim, %")[1].split() == ["<", "25"] * 3


@pytest.mark.parametrize(
    "line, says",
    [
        ("--dataset=svhn", "--dataset=svhn: choose from mnist, cifar10, imagenet, all"),
        ("--members=w2a4,w2", "precision 'w2': write fp, or w2a4"),
        ("--members=w2a4,w2a0,fp", "activation_bits=0"),
        ("--members=", "--members names none"),
        ("--members=w2a4,,fp", "precision ''"),
        ("--members=w2a4/fp,fp", "2 layer-wise precisions given, but the network quantizes 3"),
        ("--nb_filters=0", "nb_filters"),
        ("--nb_filters=10000000000", "nb_filters"),
        ("--out=setup.py/cost.json", "is not a writable folder"),
        ("--out=setup.py", "setup.py"),
        ("mnist", "unexpected argument 'mnist'"),
    ],
)
def test_bad_input_is_one_line(run, line, says):
    assert_refused(run(line), says)


def test_the_record_is_what_is_counted_now(paper):
    with open(RECORD) as file:
        record = json.load(file)
    assert record["command"].endswith(" --dataset=all --out=results/cost.json")
    assert record["ensembles"] == json.loads(json.dumps(paper))
