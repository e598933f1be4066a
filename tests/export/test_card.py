"""Model cards say what the records say, in the form that Hugging Face and RobustBench read."""

from dataclasses import replace

import pytest
import yaml

from empir import published
from empir.experiments import EXPERIMENTS
from empir.export import card
from empir.export.source import Source, SourceMember
from empir.records import runs
from tests.support import ROOT


def shipped(dataset, combine="mean_logits"):
    """The source of a dataset's shipped members, without their weights."""
    digests = {entry["path"]: entry["sha256"] for entry in published.manifest()["members"]}
    layers = ("conv1", "conv2", "conv3")
    members = tuple(
        SourceMember(
            layers=dict.fromkeys(layers, precision),
            checkpoint=f"checkpoints/{dataset}/{name}",
            sha256=digests[f"checkpoints/{dataset}/{name}"],
            nb_filters=64,
            latent={},
            quantized={},
        )
        for name, precision in EXPERIMENTS[dataset].members
    )
    return Source(EXPERIMENTS[dataset], combine, 2, members)


def stranger():
    """Somebody else's members."""
    known = shipped("cifar10")
    return replace(known, members=tuple(replace(m, sha256="0" * 64) for m in known.members))


def head(text):
    """The front matter of a card, as data, and the text after it."""
    empty, front, rest = text.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(front), rest


@pytest.mark.parametrize("dataset", ["cifar10", "mnist"])
@pytest.mark.parametrize("combine", ["vote", "mean_logits"])
def test_a_card_has_the_accuracies_of_the_records(dataset, combine):
    source = shipped(dataset, combine)
    found = card.records(source)
    front, text = head(card.card(source, found))
    assert found and front["license"] == "mit" and front["library_name"] == "pytorch"
    (entry,) = front["model-index"]
    (result,) = entry["results"]
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    for row, _ in found:
        record = runs.read_json(row.path)
        assert record["combine"] == combine and record["dataset"] == dataset
        number = f"{record['eps']:g}"
        radius = {"0.00784314": "2/255", "0.0156863": "4/255", "0.0313725": "8/255"}
        norm = {"linf": "L-infinity", "l2": "L2"}[record["norm"]]
        under = f"{norm} {radius.get(number, number)}"
        assert values[f"robust accuracy, {under}"] == record["worst_case_accuracy"]
        assert f"| {under} |" in text
        low, high = (100 * bound for bound in record["interval"])
        percent = 100 * record["worst_case_accuracy"]
        assert f"| {percent:.1f} ({low:.1f} to {high:.1f}) |" in text
    assert "not robust" in text and "@inproceedings{" in text
    assert all(member.sha256 in text for member in source.members)
    assert "{{" not in text and "{%" not in text


def test_a_card_of_members_without_records_says_so():
    source = stranger()
    assert card.records(source) == []
    front, text = head(card.card(source, []))
    assert "model-index" not in front
    assert "There is no record of these members" in text and "not known here" in text


def test_an_entry_for_robustbench_is_made_of_the_record_at_its_radius():
    source = shipped("cifar10")
    entry = card.robustbench(source, card.records(source))
    record = runs.read_json(ROOT + "/results/robustness/cifar10-ensemble-8-255-mean_logits.json")
    outside = ROOT + "/results/robustness/outside/cifar10-ensemble-8-255-mean_logits.json"
    assert float(entry["external"]) == pytest.approx(100 * record["worst_case_accuracy"])
    assert float(entry["clean_acc"]) == pytest.approx(100 * record["clean_accuracy"])
    auto = runs.read_json(outside)["autoattack"]["accuracy"]
    assert float(entry["autoattack_acc"]) == pytest.approx(100 * auto)
    assert entry["eps"] == "8/255" and entry["dataset"] == "cifar10"
    for other in (stranger(), shipped("mnist")):
        assert card.robustbench(other, card.records(other)) is None
