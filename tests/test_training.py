"""Training: it learns, is a function of its seed, and resumes to the same weights after a kill."""

import json
import os

import numpy as np
import pytest

from empir import checkpoints
from empir.data import mnist
from empir.errors import EmpirError, ResumeError
from empir.models import architecture
from empir.precision import FULL, Precision, per_layer
from empir.training import Settings, loop, train
from empir.training.loop import epoch_batches


@pytest.fixture(scope="module")
def data():
    """The embedded sample, taken as training images."""
    return mnist.load(sample=True)


def settings(precision=FULL, **changes):
    """A narrow network trained for two epochs."""
    plain = dict(
        network=architecture("MNISTconv"),
        precisions=per_layer(precision, 3),
        options={"nb_filters": 4},
        epochs=2,
        batch_size=64,
        learning_rate=0.003,
        seed=5,
    )
    return Settings(**dict(plain, **changes))


@pytest.mark.parametrize("count, size", [(1000, 64), (128, 128), (10, 64), (129, 128)])
def test_batches_are_full_and_hold_every_example(count, size):
    batches = epoch_batches(count, size, seed=1, epoch=0)
    assert {len(batch) for batch in batches} == {min(size, count)}
    assert len(batches) == -(-count // size)
    assert set(np.concatenate(batches)) == set(range(count))


def test_shuffling_depends_on_seed_and_epoch_alone():
    first = np.concatenate(epoch_batches(1000, 100, 1, 0))
    np.testing.assert_array_equal(first, np.concatenate(epoch_batches(1000, 100, 1, 0)))
    for seed, epoch in ((1, 1), (2, 0)):
        assert (first != np.concatenate(epoch_batches(1000, 100, seed, epoch))).mean() > 0.9


@pytest.mark.parametrize("precision", [FULL, Precision(2, 4)], ids=str)
def test_networks_learn(data, precision, caplog):
    caplog.set_level("INFO", "empir")
    train(settings(precision, epochs=6), data, test=data, progress=False)
    accuracy = float(caplog.messages[-1].split()[-1])
    assert accuracy > 0.25  # 1,000 images, 96 steps, 4 filters; chance is 0.1


def test_the_same_seed_gives_the_same_weights(data):
    first, again = (train(settings(), data, progress=False) for _ in range(2))
    assert checkpoints.digest(first) == checkpoints.digest(again)
    other = train(settings(seed=6), data, progress=False)
    assert checkpoints.digest(first) != checkpoints.digest(other)


def test_a_killed_training_resumes_to_the_same_weights(data, tmp_path, monkeypatch):
    whole = train(settings(Precision(2, 4), epochs=3), data, progress=False)
    run_epoch = loop._run_epoch

    def killed(graph, session, data, settings, epoch, *rest):
        if epoch == 2:
            raise KeyboardInterrupt
        run_epoch(graph, session, data, settings, epoch, *rest)

    folder = str(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_run_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
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
    with open(os.path.join(folder, "training.json")) as file:
        record = json.load(file)
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
