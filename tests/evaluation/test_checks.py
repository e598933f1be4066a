"""Verdicts: each is failed by a model built to fail it, and passed by one that hides nothing."""

import contextlib
import functools
from dataclasses import replace

import numpy as np
import pytest

from empir.data import Dataset
from empir.evaluation import checks, curves, probes, runner, suite, suites
from empir.evaluation.graph import Judge, Networks, Setting
from empir.evaluation.threat import Threat
from empir.evaluation.views import ViewSpec
from empir.models.ensemble import Ensemble
from empir.runtime import tf
from tests.support.known import UNOPTIMIZED, Case, Known

pytestmark = pytest.mark.slow  # it runs whole evaluations

SIDE, COUNT = 11, 30


class Model(Known):
    """A member with logits of a function of images."""

    def __init__(self, logits):
        super().__init__(0.0)
        self._function = logits

    def get_logits(self, x):
        """Logits."""
        return self._function(x)


def evenly(x):
    """Two classes by the mean value: below a half, and above."""
    return 20 * tf.tensordot(tf.reduce_mean(x, [1, 2, 3]) - 0.5, tf.constant([-1.0, 1.0]), 0)


def only(x, passed):
    """x, whose gradient passes only where `passed` is 1."""
    return tf.stop_gradient(x) + passed * (x - tf.stop_gradient(x))


def rounded(x):
    """Rounding, which has no gradient."""
    return evenly(tf.round(x * 64) / 64)


def sure(x):
    """So large that the cross-entropy is zero in float32."""
    return 1e4 * evenly(x)


def on_the_data(x):
    """Has a gradient where images are, at multiples of 1 / 10, and nowhere else."""
    return evenly(only(x, tf.cast(tf.abs(10 * x - tf.round(10 * x)) < 1e-4, tf.float32)))


def fragile(x):
    """Decided by the last digits of one pixel, which noise changes, and rounded besides."""
    odd = tf.round(x[:, 0, 0, 0] * 40) % 2
    flip = 20 * tf.tensordot(odd, tf.constant([1.0, -1.0]), 0)
    return evenly(tf.stop_gradient(x)) + flip


def drawing(x):
    """The other class now and then, at random."""
    flip = tf.cast(tf.random_uniform(tf.shape(x)[:1]) < 0.1, tf.float32)
    return evenly(x) * tf.expand_dims(1 - 2 * flip, 1)


def one_by_one(x):
    """Bright unless all pixels are dark; its gradient shows the first that is not, and no other."""
    above = tf.nn.relu(tf.reshape(x, [-1, SIDE * SIDE]) - 0.55)
    bright = tf.cast(above > 0, tf.float32)
    first = tf.one_hot(tf.argmax(bright, axis=1), SIDE * SIDE)
    score = 20 * tf.reduce_sum(tf.stop_gradient(bright) + first * above, axis=1) - 1
    return tf.tensordot(score, tf.constant([-1.0, 1.0]), 0)


def together(x):
    """Reads the other images of its chunk."""
    return evenly(x - tf.reduce_mean(x, axis=0, keepdims=True) + 0.5)


def probabilities(x):
    """Not logits."""
    return tf.nn.softmax(evenly(x))


def setting(logits, eps):
    """Bright and dark images of two classes, multiples of 1 / 10."""
    random = np.random.RandomState(0)
    labels = np.arange(COUNT) % 2
    images = np.where(labels[:, None, None, None], 0.7, 0.3)
    images = images + random.choice([-0.1, 0.0, 0.1], (COUNT, SIDE, SIDE, 1))
    data = Dataset("known", "test", images.astype(np.float32), labels, 2, (0.0, 1.0), "known")

    @contextlib.contextmanager
    def opened():
        with tf.Graph().as_default(), tf.Session(config=UNOPTIMIZED) as session:
            tf.set_random_seed(1)
            yield Networks(session, Ensemble([Model(logits)]))

    return Setting(opened, data, Threat(eps=eps), batch_size=15)


@functools.lru_cache()
def known_specs():
    """All attacks that a check needs, by name."""
    with setting(evenly, 0.1).open() as networks:
        found = suites.adaptive(networks.ensemble)
    found += suites.controls(Threat(eps=0.1), 1.0, ViewSpec())
    return {spec.name: spec for spec in found}


def judged(logits, eps, folder, names):
    """Checks of a model by name, from the attacks that the named ones need."""
    chosen = setting(logits, eps)
    with chosen.open() as networks:
        clean = runner.clean_outputs(Judge(chosen, networks), chosen)
        probe = probes.probe(chosen, networks)
    needed = {name: None for check in names for name in checks.CHECKS[check][1]}
    with contextlib.closing(suite.Evaluation(chosen, str(folder), clean, progress=False)) as run:
        for name in needed:
            run.run(known_specs()[name])
        measured = {}
        if "convergence" in names:
            measured["steps"] = curves.iterations(run, ViewSpec(), (40, 80, 160), most=160)
    found = checks.judge(checks.Evidence.of(run, probe, measured))
    return {check.name: check for check in found}


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """All checks of a model that hides nothing."""
    return judged(evenly, 0.3, tmp_path_factory.mktemp("honest"), checks.CHECKS)


@pytest.mark.parametrize(
    "name, logits, eps, says",
    [
        ("zero-gradients", rounded, 0.3, "zero everywhere at 100.0 % of the clean images"),
        ("vanishing-gradients", sure, 0.3, "zero in float32 at 100.0 %"),
        ("single-step", on_the_data, 0.3, "One step (FGSM) succeeds on 100.0 %"),
        ("black-box", rounded, 0.4, "without gradients (Square) succeeds on 100.0 %"),
        ("noise", fragile, 0.2, "Noise of the same radius succeeds"),
        ("large-radius", rounded, 0.3, "Auto-PGD is 100.0 %; it must be 0"),
        (
            "convergence",
            one_by_one,
            0.3,
            "Accuracy is 50.0 % after 80 iterations and 0.0 % after 160",
        ),
        ("chunk-size", together, 0.3, "change with the images that share their chunk"),
        ("seed", drawing, 0.3, "draws at random"),
        ("probabilities", probabilities, 0.3, "Member 1 gives numbers in [0, 1]"),
    ],
)
def test_a_model_built_to_fail_a_check_fails_it(tmp_path, honest, name, logits, eps, says):
    found = judged(logits, eps, tmp_path, [name])[name]
    assert found.passed is False and says in found.reason, found
    assert found.describe()["see"] == "docs/robustness.md#" + name
    assert honest[name].passed is True, honest[name]


@pytest.mark.parametrize("size, count", [(7, 20), (1, 20), (15, 6), (15, 2)])
def test_chunks_are_compared_with_those_of_another_size(size, count):
    chosen = setting(together, 0.3)
    chosen = replace(chosen, batch_size=size, data=chosen.data.first(count))
    with chosen.open() as networks:
        assert probes.probe(chosen, networks).chunked > 0.5


@pytest.mark.parametrize(
    "left_out, passed, says",
    [
        ((), True, "No attack of the suite was left out"),
        (suites.left_out("l2", 1, 10), None, "Not run: square, rays."),
        (suites.left_out("l2", 0, 10), False, "Not run: apgd-outside, square, rays."),
        (None, None, "not those of the default suite"),
    ],
)
def test_an_attack_that_was_left_out_counts_against_the_checks(left_out, passed, says):
    quiet = probes.Probe(4, 0.0, 0.0, 0.0, 0.0, 0.0, ())
    evidence = checks.Evidence(quiet, {}, np.ones(5, bool), left_out=left_out)
    (found,) = [one for one in checks.judge(evidence) if one.name == "complete"]
    assert found.passed is passed and says in found.reason


def test_what_is_missing_is_not_judged(tmp_path):
    chosen = setting(lambda x: -evenly(x), 0.1)
    with chosen.open() as networks:
        clean = runner.clean_outputs(Judge(chosen, networks), chosen)
        probe = probes.probe(chosen, networks)
    evidence = checks.Evidence.of(suite.Evaluation(chosen, str(tmp_path), clean), probe, {})
    found = {one.name: one for one in checks.judge(evidence)}
    assert list(found) == list(checks.CHECKS)
    assert {one.passed for one in found.values()} == {None}
    assert found["noise"].reason == "Not judged: the suite has no noise, apgd-ce."
    assert "no clean image" in found["zero-gradients"].reason


def test_another_seed_that_decides_otherwise_is_told(random):
    quiet = probes.Probe(4, 0.0, 0.0, 0.0, 0.0, 0.0, ())
    success = {
        "apgd-ce": np.array([1, 1, 0, 0, 1], bool),
        "control-seed": np.array([1, 0, 0, 0], bool),
    }
    evidence = checks.Evidence(quiet, success, np.ones(5, bool))
    (found,) = [one for one in checks.judge(evidence) if one.name == "seed"]
    assert found.passed is False and "25.0 %" in found.reason


def test_chunks_of_a_model_that_draws_are_not_judged(tmp_path):
    found = judged(drawing, 0.1, tmp_path, ["chunk-size"])
    assert found["chunk-size"].passed is None


def test_gradients_are_counted_on_images_that_are_classified_correctly(random):
    case = Case(random)
    with case.open() as networks:
        found = probes.probe(case.setting(), networks)
    assert found.images == (case.decided == case.data.labels).sum() == 30
    assert (found.zero_pixels, found.zero_images, found.flat_images) == (0, 0, 0)
    assert (found.repeated, found.chunked, found.probabilities) == (0, 0, ())


@pytest.mark.parametrize(
    "points, passed, told",
    [
        ([(80, 0.75), (160, 0.5), (320, 0.4975)], True, "after 160 iterations"),
        ([(80, 0.75), (160, 0.5)], False, "after 80 iterations"),
        # One image more is little of all, but a fifth of those that remain.
        ([(80, 0.0125), (160, 0.01)], False, "after 80 iterations"),
        ([(80, 0.0), (160, 0.0)], True, "after 80 iterations"),
        ([(80, 0.5)], None, "Not judged"),
    ],
)
def test_convergence_is_about_the_last_doubling(points, passed, told):
    evidence = checks.Evidence(None, {}, np.ones(400, bool), curves={"steps": points})
    found, reason = checks.CHECKS["convergence"][2](evidence)
    assert found is passed and told in reason


@pytest.mark.parametrize(
    "last, passed, told",
    [
        (0, True, "Random start 5 succeeds on 0.0 % of the 60 images"),
        (3, True, "on 5.0 % of the 60"),
        (4, False, "on 6.7 %"),
        (60, True, "No image is left after 5"),
    ],
)
def test_random_starts_must_have_stopped_finding_more(last, passed, told):
    rounds = np.repeat([1, 5], [40, 60])
    success = np.repeat([True, False], [40 + last, 60 - last])
    evidence = checks.Evidence(
        None, {}, np.ones(100, bool), starts={"success": success, "rounds": rounds}
    )
    found, reason = checks.CHECKS["restarts"][2](evidence)
    assert found is passed and told in reason


@pytest.mark.parametrize("by_rays, passed", [(10, True), (5, True), (4, False)])
def test_attacks_that_see_decisions_must_succeed_where_gradients_do(by_rays, passed):
    counts = {"gradient": 10, "hopskipjump": 2, "rays": by_rays}
    success = {f"control-{name}": np.arange(20) < count for name, count in counts.items()}
    evidence = checks.Evidence(None, success, np.ones(20, bool))
    found, reason = checks.CHECKS["decisions"][2](evidence)
    assert found is passed and f"rays on {by_rays}" in reason
