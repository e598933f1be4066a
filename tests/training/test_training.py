"""Training: it learns, is a function of its seed, and resumes to the same weights after a kill."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from empir import runtime
from empir.data import mnist
from empir.errors import EmpirError, ResumeError
from empir.models import checkpoints
from empir.models.member import load_member
from empir.nn import architecture
from empir.nn.precision import FULL, Precision
from empir.runtime import session as new_session
from empir.runtime import tf
from empir.training import loop, train
from empir.training.loop import epoch_batches
from tests.support.trainings import NORMALISED, difference, killed_after, settings

pytestmark = pytest.mark.slow  # it trains networks


@pytest.fixture(scope="module")
def data():
    """The embedded sample, taken as training images."""
    return mnist.load(sample=True)


def training_record(folder):
    """training.json of a folder."""
    with open(os.path.join(folder, "training.json")) as file:
        return json.load(file)


@pytest.mark.parametrize("count, size", [(1000, 64), (128, 128), (10, 64), (129, 128)])
def test_batches_are_full_and_hold_every_example(count, size):
    batches = epoch_batches(np.random.RandomState(0).permutation(count), size)
    assert {len(batch) for batch in batches} == {min(size, count)}
    assert len(batches) == -(-count // size)
    assert set(np.concatenate(batches)) == set(range(count))


def test_shuffling_depends_on_seed_and_epoch_alone(data):
    first = data.order(1, 0)
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    np.testing.assert_array_equal(first, data.order(1, 0))
    for seed, epoch in ((1, 1), (2, 0)):
        assert (first != data.order(seed, epoch)).mean() > 0.9


@pytest.mark.parametrize("precision", [FULL, Precision(2, 4)], ids=str)
def test_networks_learn(data, precision, caplog):
    caplog.set_level("INFO", "empir")
    train(settings(precision, epochs=6), data, test=data, progress=False)
    accuracy = float(caplog.messages[-1].split()[-1])
    assert accuracy > 0.25  # 1,000 images, 96 steps, 4 filters; chance is 0.1


@pytest.mark.onednn  # as trainings are made
def test_the_same_seed_gives_the_same_weights(data):
    first, again = (train(settings(), data, progress=False) for _ in range(2))
    assert checkpoints.digest(first) == checkpoints.digest(again)
    other = train(settings(seed=6), data, progress=False)
    assert checkpoints.digest(first) != checkpoints.digest(other)


@pytest.mark.onednn  # as trainings are made
@pytest.mark.parametrize("within_an_epoch", [False, True])
def test_a_killed_training_resumes_to_the_same_weights(
    data, tmp_path, monkeypatch, within_an_epoch
):
    data, whole_folder = data.first(320), str(tmp_path / "whole")
    whole = train(settings(Precision(2, 4), epochs=3), data, whole_folder, progress=False)
    # 5 steps an epoch: killed after an epoch, or within the third with the state of step 12.
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1 if within_an_epoch else 600)
    folder = str(tmp_path / "killed")
    with killed_after(monkeypatch, 12 if within_an_epoch else 10):
        train(settings(Precision(2, 4), epochs=3), data, folder, progress=False)
    assert not checkpoints.has_checkpoint(folder)
    with pytest.raises(ResumeError, match="--resume continues it"):
        train(settings(Precision(2, 4), epochs=3), data, folder, progress=False)
    with pytest.raises(ResumeError, match="seed was 5, now 6"):
        other = settings(Precision(2, 4), epochs=3, seed=6)
        train(other, data, folder, resume=True, progress=False)
    resumed = train(settings(Precision(2, 4), epochs=3), data, folder, resume=True, progress=False)
    assert checkpoints.digest(resumed) == checkpoints.digest(whole)
    assert checkpoints.digest(checkpoints.read(folder)) == checkpoints.digest(whole)
    assert training_record(folder)["history"] == training_record(whole_folder)["history"]


def test_what_training_leaves_behind(data, tmp_path):
    folder, logdir = str(tmp_path / "member"), str(tmp_path / "logs")
    arrays = train(settings(), data, folder, logdir=logdir, test=data, progress=False)
    assert sorted(arrays) == sorted(architecture("MNISTconv").released_names["fp"].values())
    assert sorted(os.listdir(folder)) == [
        "checkpoint",
        "model.data-00000-of-00001",
        "model.index",
        "model.meta",
        "training.json",
    ]
    record = training_record(folder)
    assert record["sha256"] == checkpoints.digest(arrays)
    assert record["seed"] == 5 and record["epochs"] == 2 and record["precisions"] == ["fp"] * 3
    assert 0.1 < record["clean_accuracy"] <= 1
    assert any(name.startswith("events") for name in os.listdir(logdir))


def test_latent_weights_are_not_quantized(data):
    arrays = train(settings(Precision(1, 2)), data, progress=False)
    assert len(np.unique(arrays["lp_conv2_bin_init/k"])) > 100


@pytest.mark.parametrize("change", [{"epochs": 0}, {"batch_size": -1}, {"learning_rate": 0.0}])
def test_settings_out_of_range_are_named(data, change):
    with pytest.raises(EmpirError, match="%s=.* must be positive" % list(change)[0]):
        train(settings(**change), data)


def test_a_diverging_loss_is_an_error(data):
    with pytest.raises(EmpirError, match="try a smaller learning rate than 1e.20"):
        train(settings(learning_rate=1e20), data, progress=False)


@pytest.mark.parametrize(
    "epoch, rate", [(0, 0.1), (1, 0.1), (2, 0.01), (3, 0.01), (4, 0.003), (9, 0.003)]
)
def test_the_rate_follows_the_schedule(epoch, rate):
    assert settings(learning_rate=0.1, schedule=((2, 0.01), (4, 0.003))).rate(epoch) == rate


def test_a_scheduled_rate_of_zero_stops_the_weights(data):
    once = train(settings(epochs=1), data, progress=False)
    stopped = train(settings(epochs=2, schedule=((1, 0.0),)), data, progress=False)
    assert checkpoints.digest(once) == checkpoints.digest(stopped)


def test_adams_epsilon_damps_the_steps(data):
    def change(epsilon):
        run = settings(epochs=1, adam_epsilon=epsilon)
        before = train(replace(run, schedule=((0, 0.0),)), data, progress=False)
        after = train(run, data, progress=False)
        return difference(after, before)

    assert change(10.0) < 0.01 * change(1e-8)


@pytest.mark.parametrize("precision", [FULL, Precision(2, 2)], ids=str)
def test_moving_statistics_are_trained_for_both_kinds_of_member(data, tmp_path, precision):
    run = settings(network=NORMALISED, precisions=(precision,), batch_size=1000, epochs=1)
    run = replace(run, schedule=((0, 0.0),))  # one step on all images that moves statistics only
    folder = str(tmp_path)
    arrays = train(run, data, folder, test=data, progress=False)
    prefix = "fp_" if precision.is_full else "lp_"
    with tf.Graph().as_default(), new_session() as session:
        tf.set_random_seed(run.seed)
        model = NORMALISED.build(run.precisions, seed=run.seed, **run.options)
        session.run(tf.global_variables_initializer())
        before = model.get_layer("conv1_bias").output
        values = session.run(before, {model.input: data.images})
    # Momentum 0.99 from mean 0 and variance 1.
    mean, variance = values.mean((0, 1, 2)), values.var((0, 1, 2))
    np.testing.assert_allclose(arrays[prefix + "bn1/moving_mean"], 0.01 * mean, atol=1e-5)
    np.testing.assert_allclose(
        arrays[prefix + "bn1/moving_variance"], 0.99 + 0.01 * variance, atol=1e-5
    )
    # The test accuracy is taken by those statistics, as a loaded member has them.
    with tf.Graph().as_default(), new_session() as session:
        member = load_member(NORMALISED, run.precisions, folder, session, **run.options)
        decisions = session.run(member.decision(tf.constant(data.images)))
    assert np.mean(decisions == data.labels) == training_record(folder)["clean_accuracy"]


def test_a_normalised_network_learns_and_resumes(data, tmp_path, monkeypatch):
    run = settings(network=NORMALISED, precisions=(FULL,), epochs=3)
    whole = train(run, data, test=data, progress=False)
    with killed_after(monkeypatch, 20):
        train(run, data, str(tmp_path), progress=False)
    resumed = train(run, data, str(tmp_path), resume=True, test=data, progress=False)
    assert checkpoints.digest(resumed) == checkpoints.digest(whole)
    assert training_record(str(tmp_path))["clean_accuracy"] > 0.5


@pytest.fixture
def two_devices(monkeypatch):
    """Two CPU devices, as two GPUs would be; sessions have them."""

    def session(graph=None):
        return tf.Session(graph=graph, config=tf.ConfigProto(device_count={"CPU": 2}))

    monkeypatch.setattr(runtime, "session", session)
    return ["/cpu:0", "/cpu:1"]


@pytest.mark.parametrize("precision", [FULL, Precision(2, 4)], ids=str)
def test_two_devices_share_a_batch_and_train_the_same_network(data, precision, two_devices):
    run = settings(precision, epochs=1, batch_size=250, label_smoothing=0.1)
    alone = train(run, data, progress=False, devices=())
    shared = train(run, data, progress=False, devices=two_devices)
    start = train(replace(run, schedule=((0, 0.0),)), data, progress=False)
    for name in alone:
        moved = np.abs(alone[name] - start[name]).max()
        # Four steps of Adam; sums over a batch are rounded in another order.
        assert moved > 1e-3 and np.abs(alone[name] - shared[name]).max() < 0.05 * moved


def test_two_devices_average_the_moving_statistics(data, tmp_path, two_devices):
    run = settings(network=NORMALISED, precisions=(Precision(2, 2),), batch_size=1000, epochs=1)
    run = replace(run, schedule=((0, 0.0),))
    alone = train(run, data, progress=False, devices=())
    shared = train(run, data, str(tmp_path), progress=False, devices=two_devices)
    for name in alone:
        if "bn1/moving_mean" in name:  # of two halves: the mean of their means
            np.testing.assert_allclose(shared[name], alone[name], atol=1e-5)
        elif "moving" not in name:  # what comes after is normalised by each half's own variance
            np.testing.assert_array_equal(shared[name], alone[name])
    assert checkpoints.digest(checkpoints.read(str(tmp_path))) == checkpoints.digest(shared)
