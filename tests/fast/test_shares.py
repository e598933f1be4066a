"""Shares of a chunk that run side by side: the same results, whatever the number of examples."""

import sys

import numpy as np
import pytest

from empir import attacks, runtime
from empir.attacks.apgd import AutoPGD
from empir.attacks.base import as_function, in_shares
from empir.evaluation.views import AttackedEnsemble
from empir.runtime import tf
from tests.attacks.test_attacks import Linear
from tests.evaluation.test_views import ensemble
from tests.support import MEMBERS, one_hot
from tests.support.scripts import MNIST_SCRIPT, run_script

pytestmark = pytest.mark.slow  # it builds many networks

CLIP = dict(clip_min=0.0, clip_max=1.0)
CASES = {
    "fgsm": dict(eps=0.1, **CLIP),
    "bim": dict(eps=0.1, eps_iter=0.02, nb_iter=7, **CLIP),
    "pgd": dict(eps=0.1, eps_iter=0.02, nb_iter=7, **CLIP),
    "cw": dict(batch_size=4, max_iterations=20, initial_const=10.0, learning_rate=0.1, **CLIP),
    "apgd": dict(eps=0.1, nb_iter=10, **CLIP),
    "square": dict(eps=0.1, nb_iter=20, **CLIP),
}


@pytest.fixture
def shares():
    """A function that sets their number: as many threads, and images enough for each."""
    yield lambda count: runtime.configure(count, images=100)
    runtime.configure(num_threads=1)


def generated(session, name, images, labels, w, shares=1):
    """What an attack makes of images."""
    model = Linear(w)
    attack = attacks.create(name, model, session, shares)
    x = tf.placeholder(tf.float32, (None,) + images.shape[1:])
    y = tf.placeholder(tf.float32, (None, 3))
    return session.run(attack.generate(x, y=y, **CASES[name]), {x: images, y: labels})


@pytest.mark.parametrize("count, examples", [(2, 1), (2, 6), (3, 5)])
@pytest.mark.parametrize("name", sorted(CASES))
def test_attacks_find_the_same_in_shares(session, random, name, count, examples):
    images = random.uniform(size=(examples, 4, 4, 1)).astype(np.float32)
    w = random.normal(size=(16, 3))
    labels = one_hot((images.reshape(examples, -1) @ w).argmax(axis=1), 3)
    whole = generated(session, name, images, labels, w)
    # Sums of other batches may be rounded otherwise.
    parts = generated(session, name, images, labels, w, shares=count)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert not np.array_equal(whole, images)


def test_targets_stay_with_their_images(session, random):
    images = tf.constant(random.uniform(0.3, 0.7, size=(5, 4, 4, 1)), tf.float32)
    w = random.normal(size=(1, 16, 4))
    labels, towards = (tf.constant(one_hot(random.randint(0, 4, 5), 4)) for _ in range(2))
    found_in_shares = []

    class Endless(AttackedEnsemble):
        def assess(self, image, labels, toward=None):
            found = super().assess(image, labels, toward)
            return found._replace(success=tf.zeros_like(found.success))  # never ends early

    for count in (1, 2):
        attack = AutoPGD(Endless(ensemble(w)))
        attack.shares = count
        parameters = dict(y=labels, toward=towards, eps=0.1, nb_iter=8)
        found_in_shares.append(session.run(attack.generate(images, **parameters)))
    np.testing.assert_allclose(found_in_shares[0], found_in_shares[1], atol=1e-6)


def test_shares_have_one_size_and_no_example_is_lost(session):
    x = tf.placeholder(tf.float32, [None])

    def double(x):
        return {"double": 2 * x, "size": tf.fill(tf.shape(x), tf.shape(x)[0])}

    found = in_shares(double, x, shares=3)
    for examples, size in ((1, 1), (3, 1), (4, 2), (7, 3), (9, 3)):
        told = session.run(found, {x: np.arange(examples)})
        assert told["double"].tolist() == [2 * i for i in range(examples)]
        assert told["size"].tolist() == [size] * examples


def test_a_function_is_traced_once_for_all_shares(session):
    traced = []

    def square(x):
        traced.append(x)
        return x * x

    x = tf.placeholder(tf.float32, [None, 2])
    function = as_function(square, x)
    assert session.run(in_shares(function, x, shares=4), {x: np.ones((9, 2))}).shape == (9, 2)
    assert len(traced) == 1


def test_threads_become_shares(monkeypatch, shares):
    shares(1)
    cases = [(1, 100, 1, 1), (2, 100, 2, 1), (8, 100, 8, 1), (20, 100, 8, 2)]
    cases += [(4, 1, 1, 4), (2, 7, 1, 2), (2, 8, 2, 1), (4, 12, 3, 1)]
    for asked, images, *expected in cases:
        monkeypatch.setenv("OMP_NUM_THREADS", "5")
        runtime.configure(asked, images)
        runtime.configure()  # as loading TensorFlow does
        each = runtime.threads() // runtime.share_count()
        assert [runtime.share_count(), each] == expected
        with runtime.session(operations=1) as session:
            assert session._config.intra_op_parallelism_threads == each
            assert session._config.inter_op_parallelism_threads == runtime.share_count()
    runtime.configure(3)
    assert (runtime.threads(), runtime.share_count()) == (3, 1)


def test_there_are_no_shares_on_gpus(monkeypatch, shares):
    shares(2)
    assert runtime.share_count() == 2
    monkeypatch.setattr(runtime, "gpus", lambda: ["/gpu:0"])
    assert runtime.share_count() == 1


def test_a_script_decides_the_same_with_two_threads(tmp_path):
    decided = []
    for threads in (1, 2):
        line = "--attack=pgd --nb_samples=9 --batch_size=5 --nb_iter=5 --num_threads=%d --out=%d"
        line = line % (threads, threads) + " --model_path=%s/model3-fp" % MEMBERS
        outcome = run_script(sys.executable, MNIST_SCRIPT, line, tmp_path)
        assert outcome.returncode == 0, outcome.stderr
        with np.load(str(tmp_path / str(threads) / "examples.npz")) as kept:
            decided.append(kept["adversarial_members"])
    assert (decided[0] == decided[1]).all()
