"""images.npz: a run's figures follow from it, it is small, and a damaged one is named."""

import json
import os

import numpy as np
import pytest

from empir.data import mnist
from empir.errors import EmpirError
from empir.evaluation import per_image, suite
from empir.evaluation.metrics import distances
from empir.evaluation.scores import score
from empir.evaluation.specs import AttackSpec
from empir.evaluation.views import ViewSpec
from empir.models.ensemble import DECISION_RULES
from tests.support.known import COUNT, Case, arrays

SPECS = (
    AttackSpec("noise", "noise", restarts=3, everyone=True),
    AttackSpec("few", "fgsm", ViewSpec("mean_logits", "ce"), everyone=True, images=10),
    AttackSpec("far", "fgsm", ViewSpec("mean_logits", "ce"), everyone=True, eps=0.2),
    AttackSpec("apgd", "apgd", ViewSpec(), steps=5),
)


@pytest.fixture(scope="module")
def case():
    """A `Case`."""
    return Case(np.random.RandomState(0))


@pytest.fixture(scope="module")
def result(case, tmp_path_factory):
    """The result of a suite, in a folder."""
    out = str(tmp_path_factory.mktemp("suite"))
    return suite.run(case.setting(), out, SPECS, progress=False, analyses=False)


@pytest.fixture
def images(result):
    """What the suite kept per image."""
    return per_image.read(os.path.join(result.folder, per_image.NAME))


def test_a_suites_figures_follow_from_its_file(result, images):
    with open(os.path.join(result.folder, "result.json")) as file:
        record = json.load(file)
    assert images.problem(record) is None and images.attacks == [spec.name for spec in SPECS]
    np.testing.assert_array_equal(images.correct, result.correct)
    np.testing.assert_array_equal(images.first, result.first_success)
    worst = images.worst_case()
    assert worst == score(record["worst_case_accuracy"], COUNT)
    assert [limit / 100 for limit in worst.interval] == record["interval"]
    assert images.clean_accuracy().percent == images.clean_accuracy("mean_logits").percent == 75
    assert set(images.clean) == set(DECISION_RULES)
    for row in record["trials"]:
        kept, name = arrays(result.folder, row["name"]), row["name"]
        assert list(np.flatnonzero(images.attacked[name])) == list(kept["row"])
        np.testing.assert_array_equal(images.succeeded[name][kept["row"]], kept["success"])
        assert row["accuracy"] in (None, images.accuracy(name).percent / 100)
    # What succeeds outside of the radius does not count.
    assert images.succeeded["far"].sum() > images.counted["far"].sum()
    assert not (images.counted["far"] & ~images.succeeded["far"]).any()


def test_the_image_that_decides_is_told(case, result, images):
    np.testing.assert_array_equal(images.number, range(COUNT))
    np.testing.assert_array_equal(images.label, case.data.labels)
    for image, found in enumerate(result.adversarial(range(COUNT))):
        here = [images.decision[image], list(images.members[image])]
        if found is None:
            assert here == [case.decided[image], list(images.clean_members[image])]
            assert images.l2[image] == images.linf[image] == 0
        else:
            assert images.attacks[images.first[image]] == found["attack"]
            assert here == [found["decision"], list(found["members"])]
            assert here[0] != case.data.labels[image]
            one = case.data.images[image : image + 1], found["adversarial"][np.newaxis]
            for norm in ("l2", "linf"):  # in float16
                away = distances(*one)[norm][0]
                assert getattr(images, norm)[image] == pytest.approx(away, rel=2.0**-11)


def test_an_image_has_its_number_in_the_split():
    sample = mnist.load(sample=True)
    drawn = sample.subset(30)
    np.testing.assert_array_equal(sample.images[drawn.numbers], drawn.images)
    np.testing.assert_array_equal(drawn.first(7).numbers, drawn.numbers[:7])
    np.testing.assert_array_equal(drawn.subset(20).images, sample.images[drawn.subset(20).numbers])
    assert list(sample.first(4).numbers) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "key, value, says",
    [
        ("worst_case_accuracy", 0.5, "accuracy under attack"),
        ("num_examples", 39, "number of images 40, and the record says 39"),
        ("clean_accuracy", 0.7, "clean accuracy 0.75"),
        ("combine", "vote", "decision rule mean_logits"),
        ("trials", [{"name": "rays"}], "no attack rays"),
        ("trials", [{"name": "few", "attacked": 10, "broken": 99}], "images of few"),
    ],
)
def test_a_record_that_says_otherwise_is_found(result, images, key, value, says):
    assert says in images.problem(dict(result.record, **{key: value}))


def drawn(random, n, members, names):
    """Arrays as of a suite on n images, an eighth of which withstand."""
    decided = random.randint(10, size=(n, members))
    first = np.where(random.rand(n) < 1 / 8, -1, random.randint(4, size=n))
    found = {f"clean_{rule}": decided[:, 0] for rule in DECISION_RULES}
    found.update(rule=np.array(["vote"]), attacks=np.array(names), clean_members=decided)
    found.update(number=np.sort(random.permutation(10 * n)[:n]), label=random.randint(10, size=n))
    found.update(first=first, decision=random.randint(10, size=n), members=decided[::-1])
    found.update(l2=random.rand(n).astype(np.float32), linf=np.full(n, 0.1, np.float32))
    order = np.arange(len(names))[:, np.newaxis]
    attacked = (order < 4) | (first < 0) | (first >= order)
    hit = attacked & (first == order)
    return dict(found, attacked=attacked, succeeded=hit, counted=hit)


def test_a_thousand_images_and_equal_arrays_take_few_and_equal_bytes(random, tmp_path):
    paths = [str(tmp_path / name) for name in ("a.npz", "b.npz")]
    found = drawn(random, 1000, 3, [f"apgd-attack-{number}" for number in range(60)])
    for path in paths:
        per_image.write(path, found)
    whole = [open(path, "rb").read() for path in paths]
    assert whole[0] == whole[1] and len(whole[0]) < 20000
    images = per_image.read(paths[0])
    for name in ("number", "label", "first", "decision", "members", "clean_members"):
        np.testing.assert_array_equal(getattr(images, name), found[name])
    np.testing.assert_array_equal(
        images.correct, (found["clean_vote"] == found["label"]) & (found["first"] < 0)
    )


def test_distances_beyond_float16_keep_their_size(random, tmp_path):
    found = drawn(random, 8, 1, ["far"])
    found["l2"] = found["l2"] * 1e6
    per_image.write(str(tmp_path / "a.npz"), found)
    np.testing.assert_array_equal(per_image.read(str(tmp_path / "a.npz")).l2, found["l2"])


def test_a_damaged_file_is_named(random, tmp_path):
    path = str(tmp_path / "a.npz")
    with pytest.raises(EmpirError, match="a.npz is unreadable"):
        per_image.read(path)
    per_image.write(path, drawn(random, 16, 2, ["one"]))
    with np.load(path) as archive:
        kept = dict(archive)
    for name in ("attacked", "label", "members"):
        np.savez(
            path,
            **dict(kept, **{name: kept[name][:, :1] if name == "attacked" else kept[name][:5]}),
        )
        with pytest.raises(EmpirError, match="a.npz is unreadable: its"):
            per_image.read(path)
    os.truncate(path, 90)
    with pytest.raises(EmpirError, match="a.npz is unreadable"):
        per_image.read(path)
