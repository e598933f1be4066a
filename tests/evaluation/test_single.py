"""Evaluations: right numbers, the same bytes after a kill, and nothing mixed between runs."""

import json
import os

import numpy as np
import pytest

from empir import attacks
from empir.data import Dataset, mnist
from empir.errors import EmpirError, ResumeError
from empir.evaluation import runner, single
from empir.evaluation.metrics import label_ranks, margins
from empir.evaluation.single import Job
from empir.evaluation.single import evaluate as evaluate_job
from empir.evaluation.subjects import shipped
from empir.experiments import PROTOCOLS, experiment
from empir.models.ensemble import Ensemble
from empir.models.member import Member, load_members
from empir.nn import Architecture, architecture
from empir.nn.precision import FULL, Precision
from empir.records import chunks
from empir.runtime import session as new_session
from empir.runtime import tf
from tests.support import resident_megabytes

pytestmark = pytest.mark.slow  # it runs whole evaluations

COUNT = 25


def evaluate(*arguments, **options):
    """The record of a job."""
    return evaluate_job(*arguments, **options).record


def layers(build, x, filters):
    """A convolution and a linear layer, of which graphs take little time."""
    x = build.relu(build.conv(x, "conv", filters, 7, strides=7), "relu")
    return build.linear(build.flatten(x), "logits", 10)


NETWORK = Architecture("Tiny", layers, (28, 28, 1), 10, quantized_layers=("conv",), nb_filters=4)


@pytest.fixture
def members():
    """(session, tiny members w2a4, w2a4, fp with random weights)."""
    with tf.Graph().as_default(), new_session() as session:
        tf.set_random_seed(0)
        made = []
        for seed, precision in ((1, Precision(2, 4)), (2, Precision(2, 4)), (3, FULL)):
            model = NETWORK.build(precision, seed=seed)
            made.append(Member(model, [precision], sha256=str(seed)))
        session.run(tf.global_variables_initializer())
        yield session, made


def ensemble_of(members, protocol):
    """The ensemble of members under a protocol."""
    return Ensemble(members, PROTOCOLS[protocol].combine, PROTOCOLS[protocol].attack_target)


def job(members, attack="pgd", protocol="whitebox", **changes):
    """A small job on the embedded sample."""
    data = mnist.load(sample=True).first(changes.pop("count", COUNT))
    settings = dict(eps=0.3, eps_iter=0.1, nb_iter=3, attack_iterations=5, batch_size=10, seed=7)
    parameters = attacks.row(attack).given_parameters(data.clip_range, settings)
    plain = dict(
        ensemble=ensemble_of(members, protocol),
        attack=attack,
        parameters=parameters,
        data=data,
        seed=7,
        batch_size=10,
        protocol=protocol,
    )
    return Job(**dict(plain, **changes))


@pytest.mark.parametrize("attack", ["cw", "fgsm", "bim", "pgd", "jsma"])
@pytest.mark.parametrize("protocol", ["paper", "whitebox"])
def test_record_agrees_with_the_adversarial_images(members, tmp_path, attack, protocol):
    session, own = members
    count = 3 if attack == "jsma" else COUNT
    run = job(own, attack, protocol, save_adversarial=True, count=count)
    record = evaluate(run, session, str(tmp_path))
    with np.load(str(tmp_path / "examples.npz")) as archive:
        arrays = dict(archive)
    images = arrays["adversarial"]
    x = tf.constant(images)
    logits = session.run(run.ensemble.member_logits(x))
    mean = np.mean(logits, axis=0).argmax(axis=1)
    np.testing.assert_array_equal(arrays["adversarial_mean_logits"], mean)
    np.testing.assert_array_equal(arrays["adversarial_members"].T, np.argmax(logits, axis=2))
    vote = session.run(Ensemble(own, "vote").decision(x))
    np.testing.assert_array_equal(arrays["adversarial_vote"], vote)
    decided = {"paper": vote, "whitebox": mean}[protocol]
    assert record["adversarial_accuracy"] == np.mean(decided == run.data.labels)
    assert record["adversarial_accuracy"] == record["accuracy"][run.ensemble.combine]["adversarial"]
    l2 = np.linalg.norm((images - run.data.images).reshape(count, -1), axis=1)
    assert record["mean_l2"] == pytest.approx(l2.mean(), rel=1e-5)
    if attack in ("fgsm", "bim", "pgd"):
        assert 0.09 < record["mean_linf"] <= 0.3 + 1e-6
    assert json.loads((tmp_path / "result.json").read_text()) == record
    assert sorted(os.listdir(str(tmp_path))) == ["examples.npz", "images.npz", "result.json"]


def test_an_attack_leads_away_from_true_classes_or_from_decisions(members):
    """The networks are random, so that most decisions on clean images are wrong."""
    session, own = members
    decided, true = job(own), job(own, true_labels=True)
    wrong = evaluate_job(decided, session).arrays["clean_mean_logits"] != decided.data.labels
    assert wrong.any() and "labels" not in decided.describe()["attack"]
    assert true.describe()["attack"]["labels"] == "true"
    accuracy = [evaluate(one, session)["adversarial_accuracy"] for one in (decided, true)]
    assert accuracy[1] < accuracy[0]


class Killed(Exception):
    """Stands for SIGKILL between two chunks."""


def kill_after(monkeypatch, chunks):
    """Let `chunks` chunks finish, then stop."""
    attack, done = runner.attack_examples, []

    def killed(*arguments):
        if len(done) == chunks:
            raise Killed
        done.append(1)
        return attack(*arguments)

    monkeypatch.setattr(runner, "attack_examples", killed)


def without_times(record):
    """What two runs of the same command share."""
    varying = ("seconds", "started", "command", "git_commit", "peak_memory_mb")
    return {key: value for key, value in record.items() if key not in varying}


def test_a_killed_run_resumes_to_the_same_bytes(members, tmp_path, monkeypatch):
    session, own = members
    run = job(own, save_adversarial=True)
    whole = evaluate(run, session, str(tmp_path / "whole"))
    killed = str(tmp_path / "killed")
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Killed):
            evaluate(run, session, killed)
    assert not os.path.exists(os.path.join(killed, "result.json"))
    with monkeypatch.context() as patch:
        kill_after(patch, 1)  # one chunk is left, so a second one must not be computed
        resumed = evaluate(run, session, killed, resume=True)
    assert without_times(resumed) == without_times(whole)
    with open(os.path.join(killed, "examples.npz"), "rb") as a:
        with open(str(tmp_path / "whole" / "examples.npz"), "rb") as b:
            assert a.read() == b.read()


def test_an_unfinished_run_is_not_started_over_by_accident(members, tmp_path, monkeypatch):
    session, own = members
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        with pytest.raises(Killed):
            evaluate(job(own), session, str(tmp_path))
    with pytest.raises(ResumeError, match="--resume continues it"):
        evaluate(job(own), session, str(tmp_path))


def test_another_runs_state_is_refused_and_the_difference_named(members, tmp_path, monkeypatch):
    session, own = members
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        with pytest.raises(Killed):
            evaluate(job(own), session, str(tmp_path))
    for other in (job(own, seed=8), job(own[:2]), job(own, "bim"), job(own, count=20)):
        with pytest.raises(ResumeError, match="is the state of another evaluation .* was .*, now"):
            evaluate(other, session, str(tmp_path), resume=True)


def test_a_finished_run_is_returned_by_resume_and_refused_otherwise(members, tmp_path, monkeypatch):
    session, own = members
    record = evaluate(job(own, "fgsm"), session, str(tmp_path))
    kill_after(monkeypatch, 0)
    assert evaluate(job(own, "fgsm"), session, str(tmp_path), resume=True) == record
    with pytest.raises(ResumeError, match="result.json exists"):
        evaluate(job(own, "fgsm"), session, str(tmp_path))
    with pytest.raises(ResumeError, match="is the result of another run"):
        evaluate(job(own, "bim"), session, str(tmp_path), resume=True)


def test_chunking_does_not_change_a_result(members):
    session, own = members
    whole = evaluate(job(own), session)
    for size in (7, COUNT):
        chunked = evaluate(job(own, batch_size=size), session)
        assert chunked["accuracy"] == whole["accuracy"]
        # The same random starts; the kernels' sums differ by rounding with the batch size.
        assert chunked["mean_l2"] == pytest.approx(whole["mean_l2"], rel=1e-3)


class Drawn:
    """Random images, made where they are indexed."""

    digest = "drawn"

    def __init__(self, count):
        self.shape = (count, 28, 28, 1)

    def __getitem__(self, rows):
        size = (len(rows),) + self.shape[1:]
        return np.random.RandomState(rows[0]).uniform(size=size).astype(np.float32)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc/self/statm")
@pytest.mark.onednn  # Eigen's convolutions hold more memory, which is not given back at once
def test_memory_does_not_grow_with_the_number_of_images(members, tmp_path, monkeypatch):
    """20,000 images are 60 MB, and as many adversarial ones, none of which are kept."""
    session, own = members
    data = Dataset("drawn", "test", Drawn(20000), np.zeros(20000, int), 10, (0.0, 1.0), "drawn")
    used, add = [], chunks.ChunkStore.add

    def measured(store, *arguments):
        add(store, *arguments)
        used.append(resident_megabytes())

    monkeypatch.setattr(chunks.ChunkStore, "add", measured)
    run = job(own[2:], "fgsm", data=data, batch_size=500)
    evaluate(run, session, str(tmp_path), progress=False)
    assert len(used) == 40 and used[-1] - used[9] < 30


def test_a_baseline_is_the_same_under_both_protocols(members):
    session, own = members
    for attack in ("fgsm", "bim"):
        paper, whitebox = (
            evaluate(job(own[2:], attack, protocol), session) for protocol in ("paper", "whitebox")
        )
        assert paper["accuracy"] == whitebox["accuracy"]
        assert paper["mean_l2"] == whitebox["mean_l2"]


def test_targeted_attacks_aim_at_every_class_but_the_true_one(members, tmp_path):
    session, own = members
    record = evaluate(job(own, "fgsm", targeted=True, count=4), session, str(tmp_path))
    assert record["num_examples"] == 36
    with np.load(str(tmp_path / "examples.npz")) as archive:
        label, target = archive["label"], archive["target"]
        reached = archive["adversarial_mean_logits"] == target
    for image in range(4):
        part = slice(9 * image, 9 * image + 9)
        assert len(set(label[part])) == 1
        assert sorted(target[part]) == sorted(set(range(10)) - {label[part][0]})
    assert record["targeted_success"] == pytest.approx(reached.mean())


def test_invalid_adversarial_images_are_an_error(members, monkeypatch):
    session, own = members

    class Changed:
        defaults = dict(eps=0.3, ord=np.inf, y=None, clip_min=0.0, clip_max=1.0)
        change = None

        def __init__(self, model, sess):
            pass

        def generate(self, x, **_):
            return self.change(x)

    monkeypatch.setitem(attacks.TABLE, "fgsm", attacks.Row(Changed, {}, {"eps": "eps"}))
    for change, message in (
        (lambda _, x: x * np.nan, "holds NaN"),
        (lambda _, x: x + 0.2, "leaves .0, 1."),
        (lambda _, x: tf.clip_by_value(x + 0.4, 0.0, 1.0), "leaves the ball"),
    ):
        Changed.change = change
        with pytest.raises(EmpirError, match=message):
            evaluate(job(own, "fgsm"), session)


def test_bad_images_never_reach_an_attack():
    images = np.full((2, 28, 28, 1), np.nan, np.float32)
    from empir.data import check

    with pytest.raises(EmpirError, match="image 0 holds NaN"):
        check(Dataset("mnist", "test", images, np.zeros(2, np.int64), 10, (0.0, 1.0), "a test"))


def test_shipped_members_reach_their_stated_accuracy():
    """The members of checkpoints/mnist, on the embedded sample."""
    data = mnist.load(sample=True)
    least = {"model1-w2a4": 0.97, "model2-w2a4": 0.97, "model3-fp": 0.985}
    with tf.Graph().as_default(), new_session() as session:
        own = load_members(architecture("MNISTconv"), shipped(experiment("mnist")), session)
        ensemble = ensemble_of(own, "paper")
        record = evaluate(
            Job(ensemble, "fgsm", dict(eps=0.3, clip_min=0.0, clip_max=1.0), data, 0, 500), session
        )
    for name, accuracy in zip(least, record["member_accuracy"]):
        assert accuracy["clean"] >= least[name]
    assert record["clean_accuracy"] >= 0.985
    # The paper's pattern: FGSM against the released target leaves more than half.
    assert record["adversarial_accuracy"] >= 0.5


def test_the_rank_of_a_label_is_the_number_of_higher_scores(random):
    logits = random.normal(size=(6, 3, 12)).astype(np.float32)
    labels = random.randint(0, 12, 6)
    ranks = label_ranks(logits, labels)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    for i, label in enumerate(labels):
        for rule, score in (("mean_logits", logits.mean(1)), ("mean_probs", probabilities.mean(1))):
            order = list(np.argsort(-score[i]))
            assert ranks[rule][i] == order.index(label)
        for member in range(3):
            order = list(np.argsort(-logits[i, member]))
            assert ranks["members"][i, member] == order.index(label)


@pytest.mark.parametrize("members", [1, 3, 4, 5])
@pytest.mark.parametrize("rule", ["mean_logits", "mean_probs", "vote"])
def test_a_rules_margin_is_positive_where_it_decides_for_another_class(rule, members, random):
    logits = random.normal(size=(400, members, 3)).astype(np.float32)
    labels = random.randint(0, 3, 400)
    if rule == "vote":
        wrong = (logits.argmax(axis=2) != labels[:, np.newaxis]).sum(axis=1) > members / 2
    elif rule == "mean_probs":
        exponents = np.exp(5 * logits)
        probabilities = exponents / exponents.sum(axis=2, keepdims=True)
        wrong = probabilities.mean(axis=1).argmax(axis=1) != labels
    else:
        wrong = logits.mean(axis=1).argmax(axis=1) != labels
    found = margins(logits, labels, rule, temperature=5.0)
    np.testing.assert_array_equal(found > 0, wrong)
    assert found.dtype == np.float32 and 0.2 < wrong.mean() < 0.9


def test_margins_are_finite_where_probabilities_are_not_representable():
    logits = np.array([[[0, 9000, 0]], [[9000, 0, 0]]], np.float32)
    found = margins(logits, np.array([1, 1]), "mean_probs")
    assert np.isfinite(found).all() and found[0] < 0 < found[1]


@pytest.mark.parametrize("attack", ["fgsm", "cw"])
def test_many_classes_have_top5_accuracies_too(members, tmp_path, monkeypatch, attack):
    session, own = members
    assert "clean_top5" not in evaluate(job(own, attack), session)["accuracy"]["mean_logits"]
    monkeypatch.setattr(single, "TOP5_CLASSES", 10)
    run = job(own, attack, save_adversarial=True)
    record = evaluate(run, session, str(tmp_path))
    with np.load(str(tmp_path / "examples.npz")) as archive:
        arrays = dict(archive)
    for name, images in (("clean", run.data.images), ("adversarial", arrays["adversarial"])):
        logits = np.stack(session.run(run.ensemble.member_logits(tf.constant(images))), 1)
        best = np.argsort(-logits.mean(1), axis=1, kind="stable")[:, :5]
        top5 = np.mean([label in five for label, five in zip(run.data.labels, best)])
        assert record["accuracy"]["mean_logits"][name + "_top5"] == top5
        assert top5 >= record["accuracy"]["mean_logits"][name]
        for index, member in enumerate(record["member_accuracy"]):
            best = np.argsort(-logits[:, index], axis=1, kind="stable")[:, :5]
            top5 = np.mean([label in five for label, five in zip(run.data.labels, best)])
            assert member[name + "_top5"] == top5
    assert "clean_top5" not in record["accuracy"]["vote"]


def test_a_partial_last_batch_counts_and_the_record_says_what_it_is_without(members, tmp_path):
    session, own = members
    record = evaluate(job(own, "fgsm"), session, str(tmp_path))
    with np.load(str(tmp_path / "examples.npz")) as archive:
        right = archive["adversarial_mean_logits"] == archive["label"]
    assert record["adversarial_accuracy"] == right.mean() and len(right) == 25
    without = record["full_batches_only"]
    assert without["num_examples"] == 20
    assert without["adversarial_accuracy"] == right[:20].mean()
    assert "full_batches_only" not in evaluate(job(own, "fgsm", count=20), session)
    assert "full_batches_only" not in evaluate(job(own, "fgsm", count=8), session)


@pytest.mark.parametrize("batch_size", [4, 25])
def test_the_first_adversarial_images_are_kept_to_be_shown(members, tmp_path, batch_size):
    session, own = members
    run = job(own, "fgsm", batch_size=batch_size, save_adversarial=True, show=True)
    evaluate(run, session, str(tmp_path))
    with np.load(str(tmp_path / "examples.npz")) as archive:
        np.testing.assert_array_equal(archive["shown"], archive["adversarial"][:10])


def test_of_a_targeted_attack_the_first_targets_of_the_first_images_are_shown(
    members, tmp_path, monkeypatch
):
    session, own = members
    monkeypatch.setattr(single, "SHOWN_IMAGES", 3)
    monkeypatch.setattr(single, "SHOWN_TARGETS", 2)
    run = job(own, "fgsm", targeted=True, count=5, save_adversarial=True, show=True)
    rows = np.flatnonzero(run.is_shown(np.arange(run.num_examples)))
    assert list(rows) == [0, 1, 9, 10, 18, 19]
    evaluate(run, session, str(tmp_path))
    with np.load(str(tmp_path / "examples.npz")) as archive:
        np.testing.assert_array_equal(archive["shown"], archive["adversarial"][rows])
