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
from empir.nn.precision import FULL
from tests.cluster import chunks
from tests.cluster.conftest import place
from tests.evaluation.test_single import job, without_times

pytestmark = pytest.mark.slow  # it runs whole evaluations

#: Attacks of every kind that chunks have: of all images, of what is left, with starting points of
#: another attack, with targets, on no image.
SPECS = (
    AttackSpec("fgsm", "fgsm", ViewSpec("mean_logits", "ce"), everyone=True),
    AttackSpec("goes-on", "apgd", ViewSpec("outside1"), steps=2, start="fgsm"),
    AttackSpec("targeted", "apgd", ViewSpec(), steps=2, restarts=2, targets=LIKELY),
    AttackSpec("nothing", "apgd", ViewSpec("member1"), at_most=0),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A tiny ensemble, and a network outside of it."""
    folder = str(tmp_path_factory.mktemp("members"))
    chunks.save_tiny(folder)
    low, full = (os.path.join(folder, name) for name in ("low", "full"))
    members = [MemberSpec(chunks.LOW, low), MemberSpec(FULL, full)]
    return Source(chunks.NAME, members, outside=members[1:], combine="vote")


def assert_same(one, other, *names):
    """Two folders hold the same bytes."""
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def chunks_of(record):
    """How many chunks workers computed, and how many workers."""
    workers = record.pop("cluster")["workers"]
    return sum(worker["chunks"] for worker in workers), len(workers)


@pytest.mark.parametrize("attack", ["cw", "rays"])  # PGD is the commands'
def test_of_one_attack(connected, source, tmp_path, attack):
    data = mnist.load(sample=True).first(8)
    chosen = replace(source, members=source.members[1:], outside=())
    with chosen.open(data, attacks.row(attack).operations) as networks:
        ensemble = networks.ensemble
        run = replace(job(ensemble.members, attack, batch_size=2), data=data, ensemble=ensemble)
        run = replace(run, save_adversarial=True)
        given = run, networks.session
        here = single.evaluate(*given, str(tmp_path / "here"), progress=False).record
        where = place(connected, least=2, data=data, subject=dict(source=chosen))
        there = single.evaluate(*given, str(tmp_path / "there"), progress=False, place=where).record
    assert chunks_of(there) == (4, 2)
    assert without_times(there) == without_times(here)
    assert_same(tmp_path / "here", tmp_path / "there", "examples.npz", "images.npz")


def test_of_a_suite(connected, source, tmp_path):
    data = mnist.load(sample=True).first(24)
    with source.open(data) as networks:  # all images are correct when clean
        data = replace(data, labels=networks.ensemble.predict(data.images).decision)
    setting = Setting(
        open=lambda: source.open(data), data=data, threat=Threat("linf", 0.02), batch_size=3
    )
    records = []
    for name, options in (
        ("here", {}),
        ("there", dict(place=place(connected, least=2, data=data, subject=dict(source=source)))),
    ):
        out = str(tmp_path / name)
        found = suite.run(setting, out, SPECS, progress=False, analyses=False, **options)
        records.append(found.record)
    count, workers = chunks_of(records[1])
    attacked = [row["attacked"] for row in records[1]["trials"]]
    assert attacked[0] == 24 and 3 < attacked[2] <= attacked[1] < 24 and attacked[3] == 0
    assert workers == 2 and count == sum(-(-images // 3) for images in attacked)
    for record in records:
        for row in record["trials"]:
            del row["seconds"]
    assert without_times(records[0]) == without_times(records[1])
    names = [os.path.join(spec.name, "examples.npz") for spec in SPECS] + ["images.npz"]
    assert_same(tmp_path / "here", tmp_path / "there", *names)
