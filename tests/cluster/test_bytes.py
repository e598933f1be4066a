"""Workers compute, byte for byte, what one process computes."""

import os
from dataclasses import replace

import pytest

from empir import attacks
from empir.data import mnist
from empir.evaluation import single, suite
from empir.evaluation.graph import Setting
from empir.evaluation.specs import LIKELY, AttackSpec
from empir.evaluation.subjects import Source
from empir.evaluation.threat import Threat
from empir.evaluation.views import ViewSpec
from empir.models.checkpoints import MemberSpec
from empir.nn.precision import FULL, Precision
from tests.cluster.conftest import place
from tests.evaluation.test_single import job, without_times
from tests.support.released import save_members

pytestmark = pytest.mark.slow  # it runs whole evaluations

#: Attacks of every kind that chunks have: of all images, of what is left, with targets, with
#: starting points of another attack, by decisions alone.
SPECS = (
    AttackSpec("fgsm", "fgsm", ViewSpec("mean_logits", "ce"), everyone=True),
    AttackSpec("apgd", "apgd", ViewSpec(), steps=3, restarts=2, everyone=True),
    AttackSpec("goes-on", "apgd", ViewSpec("outside1"), steps=3, start="apgd"),
    AttackSpec("targeted", "apgd", ViewSpec(), steps=3, restarts=2, targets=LIKELY),
    AttackSpec("rays", "rays", steps=5, images=5),
    AttackSpec("nothing", "fgsm", ViewSpec("mean_logits", "ce"), at_most=0),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The narrow ensemble of the tests."""
    folder = str(tmp_path_factory.mktemp("members"))
    save_members(folder)
    precisions = (Precision(2, 4), Precision(2, 4), FULL)
    members = [
        MemberSpec(bits, os.path.join(folder, f"model{number}"))
        for number, bits in enumerate(precisions, 1)
    ]
    return Source("MNISTconv", members, outside=members[2:], combine="vote")


def assert_same(one, other, *names):
    """Two folders hold the same bytes."""
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def chunks_of(record):
    """How many chunks workers computed, and how many workers."""
    workers = record.pop("cluster")["workers"]
    return sum(worker["chunks"] for worker in workers), len(workers)


@pytest.mark.parametrize("attack", ["pgd", "cw", "rays"])
def test_of_one_attack(connected, source, tmp_path, attack):
    data = mnist.load(sample=True).first(12)
    chosen = replace(source, outside=(), attack_target="decision")
    with source.open(data, attacks.row(attack).operations) as networks:
        ensemble = networks.ensemble
        run = replace(job(ensemble.members, attack, batch_size=3), data=data, ensemble=ensemble)
        run = replace(run, save_adversarial=True)
        given = run, networks.session
        here = single.evaluate(*given, str(tmp_path / "here"), progress=False).record
        where = place(connected, data=data, subject=dict(source=chosen))
        there = single.evaluate(*given, str(tmp_path / "there"), progress=False, place=where).record
    assert chunks_of(there) == (4, 2)
    assert without_times(there) == without_times(here)
    assert_same(tmp_path / "here", tmp_path / "there", "examples.npz", "images.npz")


def test_of_a_suite(connected, source, tmp_path):
    data = mnist.load(sample=True).first(12)
    setting = Setting(
        open=lambda: source.open(data), data=data, threat=Threat("linf", 0.2), batch_size=3
    )
    records = []
    for name, options in (
        ("here", {}),
        ("there", dict(place=place(connected, data=data, subject=dict(source=source)))),
    ):
        out = str(tmp_path / name)
        found = suite.run(setting, out, SPECS, progress=False, analyses=False, **options)
        records.append(found.record)
    chunks, workers = chunks_of(records[1])
    assert workers == 2 and chunks >= 8
    for record in records:
        for row in record["trials"]:
            del row["seconds"]
    assert without_times(records[0]) == without_times(records[1])
    names = [os.path.join(spec.name, "examples.npz") for spec in SPECS] + ["images.npz"]
    assert_same(tmp_path / "here", tmp_path / "there", *names)
