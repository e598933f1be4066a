"""Each objective is the loss that its source states: analytic values, finite differences."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from empir.attacks.pgd import ProjectedGradientDescent
from empir.data import mnist
from empir.errors import CheckpointError, EmpirError
from empir.models import checkpoints
from empir.models.member import Member
from empir.nn import Architecture, weights
from empir.nn.precision import FULL, Precision, per_layer
from empir.runtime import keras, tf
from empir.training import loop, objectives, train
from empir.training.distillation import distill, probabilities
from tests.support import ROOT, one_hot
from tests.support.trainings import NORMALISED, difference, killed_after, settings

CLIP = (0.0, 1.0)
PGD = objectives.PGDTraining(eps=0.3, eps_iter=0.1, nb_iter=3, clip_range=CLIP)
FGSM = objectives.FGSMTraining(eps=0.3, clip_range=CLIP)
PENALTY = objectives.InputGradientRegularisation(l2dbl=100.0, l2cs=10.0)


@pytest.fixture(scope="module")
def data():
    """The embedded sample, taken as training images."""
    return mnist.load(sample=True)


def softmax(logits):
    """Row by row."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def cross_entropy(targets, logits):
    """Mean over rows, in float64."""
    return -np.mean(np.sum(targets * np.log(softmax(logits.astype(np.float64))), axis=1))


def batch(member, images, targets, soft_labels=None):
    """A `Batch` of constants, at step 7 with seed 5."""
    images = tf.identity(tf.constant(images))
    return objectives.Batch(
        member=member,
        images=images,
        logits=member.get_logits(images),
        labels=tf.constant(targets.argmax(1)),
        targets=tf.constant(targets),
        soft_labels=soft_labels,
        index=tf.range(700, 700 + len(targets), dtype=tf.int64),
        step=tf.constant(7, tf.int64),
        seed=5,
    )


def network(session, precision=FULL, seed=3):
    """A narrow MNISTconv as it is trained, with random weights."""
    run = settings(precision)
    model = run.network.build(run.precisions, seed=seed, **run.options)
    session.run([variable.initializer for variable in model.weights])
    return Member(model, run.precisions)


TARGETS = 0.8 * one_hot([7, 2, 1, 0, 4, 1]) + 0.02  # smoothed


@pytest.mark.parametrize("divisor", [1.0, 100.0])
def test_plain_loss_is_the_cross_entropy_of_divided_logits(session, data, divisor):
    member = network(session)
    plain = objectives.CrossEntropy(divisor)
    made = batch(member, data.images[:6], TARGETS)
    logits, loss = session.run([made.logits, plain.loss(made)])
    assert loss == pytest.approx(cross_entropy(TARGETS, logits / divisor), rel=1e-5)


def test_smoothed_targets(session):
    found = session.run(objectives.smoothed(tf.constant([1, 0]), 3, 0.1))
    np.testing.assert_allclose(found, [[0.05, 0.9, 0.05], [0.9, 0.05, 0.05]], rtol=1e-6)


@pytest.mark.parametrize("precision", [FULL, Precision(2, 4)], ids=str)
def test_fgsm_loss_is_the_mean_over_clean_and_attacked_images(session, data, precision):
    member = network(session, precision)
    images = data.images[:6]
    made = batch(member, images, TARGETS)
    own = tf.one_hot(tf.argmax(made.logits, 1), 10)  # the attack leaves the network's own decision
    loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=own, logits=made.logits)
    gradient = session.run(tf.gradients(loss, made.images)[0])
    radius = session.run(FGSM.draw(5, 7))
    attacked = np.clip(images + radius * np.sign(gradient), 0, 1)
    logits = [session.run(member.get_logits(tf.constant(x))) for x in (images, attacked)]
    expected = np.mean([cross_entropy(TARGETS, one) for one in logits])
    assert 0.01 < radius <= 0.3 and cross_entropy(TARGETS, logits[1]) != expected
    # The attack runs in another formulation: signs may flip where a gradient is rounding.
    assert session.run(FGSM.loss(made)) == pytest.approx(expected, rel=1e-3)


def test_pgd_loss_is_the_mean_over_clean_and_attacked_images(session, data):
    member = network(session)
    images = data.images[:6]
    made = batch(member, images, TARGETS)
    attack = ProjectedGradientDescent(member)
    attacked = session.run(
        attack.generate(
            made.images,
            eps=0.3,
            eps_iter=0.1,
            nb_iter=3,
            seed=5,
            index=made.index,
            clip_min=0.0,
            clip_max=1.0,
        )
    )
    logits = [session.run(member.get_logits(tf.constant(x))) for x in (images, attacked)]
    clean, adversarial = (cross_entropy(TARGETS, one) for one in logits)
    assert session.run(PGD.loss(made)) == pytest.approx((clean + adversarial) / 2, rel=1e-3)
    assert 0 < np.abs(attacked - images).max() <= 0.3 + 1e-6


def test_nothing_is_differentiated_through_the_attack(session, data):
    """The loss's gradient is that of two constant batches."""
    member = network(session)
    made = batch(member, data.images[:6], TARGETS)
    kernel = weights(member.model)["logits/kernel"]
    gradient = session.run(tf.gradients(PGD.loss(made), kernel)[0])
    attack = ProjectedGradientDescent(member)
    parameters = dict(eps=0.3, eps_iter=0.1, nb_iter=3, seed=5, clip_min=0.0, clip_max=1.0)
    attacked = session.run(attack.generate(made.images, index=made.index, **parameters))
    halves = [
        objectives.mean_cross_entropy(made.targets, member.get_logits(tf.constant(x))) / 2
        for x in (data.images[:6], attacked)
    ]
    expected = session.run(tf.gradients(tf.add_n(halves), kernel)[0])
    np.testing.assert_allclose(gradient, expected, atol=1e-3 * np.abs(expected).max())


def test_fgsm_radii_stay_below_eps_unless_they_are_the_originals(session):
    step = tf.placeholder(tf.int64, [])

    def radii(objective):
        drawn = objective.draw(5, step)
        return np.array([session.run(drawn, {step: i}) for i in range(300)])

    scaled = radii(FGSM)
    assert scaled.max() <= 0.3 and len(np.unique(scaled)) == 300
    # The mean of |z|, z normal and truncated at 2, is 0.7228; 300 draws know it within 6 %.
    assert scaled.mean() == pytest.approx(0.15 * 0.7228, rel=0.1)
    released = radii(replace(FGSM, radius="released"))
    assert released.mean() == pytest.approx(38 * 0.7228, rel=0.1)
    assert np.mean(released > 1) > 0.9  # drives every pixel with a gradient to 0 or 1


def linear(build, x, f):
    """Logits = W x."""
    x = build.flatten(x)
    return build.linear(x, "logits", 10)


LINEAR = Architecture("linear", linear, (2, 3, 1), 10, (), 1)


def test_penalty_of_a_linear_network_is_the_analytic_one(session, random):
    """d CE / d x = (softmax(W x) - target) W^T / n."""
    member = Member(LINEAR.build(seed=1), ())
    (kernel,) = member.model.weights
    session.run(kernel.initializer)
    images = random.uniform(size=(6, 2, 3, 1)).astype(np.float32)
    made = batch(member, images, TARGETS)
    w, logits = session.run([kernel, made.logits])
    expected = 0.0
    for weight, targets in ((100.0, TARGETS), (10.0, np.full((6, 10), 0.1))):
        gradient = (softmax(logits) - targets) @ w.T / 6
        expected += weight * np.sum(gradient**2) / 2
    assert session.run(PENALTY.penalty(made)) == pytest.approx(expected, rel=1e-4)
    whole = session.run(PENALTY.loss(made))
    assert whole == pytest.approx(expected + cross_entropy(TARGETS, logits), rel=1e-4)


@pytest.fixture
def float64():
    """Keras makes float64 networks, for finite differences."""
    keras.backend.set_floatx("float64")
    yield
    keras.backend.set_floatx("float32")


def pooled(build, x, f):
    """Every kind of layer of the paper's small networks."""
    x = build.conv(x, "conv1", f, 3)
    x = build.max_pool(x, "pool1", "valid")
    x = build.relu(x, "relu1")
    x = build.conv(x, "conv2", f, 3, strides=2)
    x = build.relu(x, "relu2")
    x = build.average_pool(x, "pool2")
    x = build.flatten(x)
    x = build.linear(x, "linear1", 8)
    return build.linear(x, "logits", 10)


POOLED = Architecture("pooled", pooled, (17, 17, 2), 10, ("conv1", "conv2"), 4)


@pytest.mark.parametrize("kernel", ["conv1", "conv2", "linear1", "logits"])
@pytest.mark.parametrize("precision", [FULL, Precision(31, 31)], ids=str)
def test_penalty_is_differentiated_as_finite_differences_say(
    session, random, float64, precision, kernel
):
    """Double backpropagation. The quantizers round by 2^-32 at most, far less than the weights
    are moved; what they keep is tanh, the largest weight and the clipping."""
    member = Member(POOLED.build(precision, seed=1), per_layer(precision, 2))
    session.run([variable.initializer for variable in member.model.weights])
    images = random.uniform(size=(6, 17, 17, 2))
    penalty = PENALTY.penalty(batch(member, images, TARGETS.astype(np.float64)))
    variable = weights(member.model)[kernel + "/kernel"]
    start = session.run(variable)
    direction = random.normal(size=start.shape)
    slope = np.sum(session.run(tf.gradients(penalty, variable)[0]) * direction)
    values = []
    for h in (1e-5, -1e-5):
        variable.load(start + h * direction, session)
        values.append(session.run(penalty))
    assert abs(slope) > 1e-6
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


@pytest.mark.slow
def test_regularised_networks_have_smaller_input_gradients(session, data):
    trained = [
        train(settings(objective=goal, epochs=4), data, progress=False)
        for goal in (objectives.CrossEntropy(), objectives.InputGradientRegularisation(3000.0, 0))
    ]
    member = network(session)
    penalty = replace(PENALTY, l2cs=0.0).penalty(
        batch(member, data.images[:200], one_hot(data.labels[:200]))
    )
    found = []
    for arrays in trained:
        for own, released in settings().network.released_names["fp"].items():
            weights(member.model)[own].load(arrays[released], session)
        found.append(session.run(penalty))
    assert found[1] < 0.5 * found[0]


def test_distillation_loss_is_the_weighted_sum(session, data, random):
    member = network(session)
    soft = softmax(random.normal(size=(6, 10))).astype(np.float32)
    made = batch(member, data.images[:6], TARGETS, tf.constant(soft))
    logits, loss = session.run([made.logits, objectives.Distillation(10.0, 0.3, 0.7).loss(made)])
    expected = 0.3 * cross_entropy(TARGETS, logits) + 0.7 * cross_entropy(soft, logits / 10)
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_soft_labels_are_those_of_the_right_images(data):
    """Students that see soft labels only learn the class that those of each image say."""
    wrong = (data.labels + 1) % 10
    goal = objectives.Distillation(1.0, hard=0.0, soft=1.0)
    run = settings(objective=goal, epochs=6)
    arrays = train(run, data, progress=False, soft_labels=one_hot(wrong))
    decided = probabilities(run, arrays, data).argmax(axis=1)
    assert np.mean(decided == wrong) > 0.5 and np.mean(decided == data.labels) < 0.2


@pytest.mark.slow
def test_a_teachers_probabilities_are_in_the_order_of_the_data(session, data):
    teacher = settings(objective=objectives.CrossEntropy(10.0))
    arrays = train(teacher, data, progress=False)
    found = probabilities(teacher, arrays, data)
    member = network(session)
    for own, released in teacher.network.released_names["fp"].items():
        weights(member.model)[own].load(arrays[released], session)
    logits = session.run(member.get_logits(tf.constant(data.images)))
    np.testing.assert_allclose(found, softmax(logits / 10), atol=1e-5)


def record(folder):
    """training.json of a folder."""
    with open(os.path.join(folder, "training.json")) as file:
        return json.load(file)


@pytest.mark.slow
def test_distilling_keeps_the_teacher_and_says_so(data, tmp_path):
    goal = objectives.Distillation(10.0, 0.5, 0.5)
    student = settings(Precision(2, 4), objective=goal, epochs=1)
    teacher = settings(objective=objectives.CrossEntropy(10.0), epochs=1)
    folder, kept = str(tmp_path / "student"), str(tmp_path / "teacher")
    first = distill(student, teacher, data, kept, directory=folder, progress=False)
    said = record(folder)["objective"]
    assert said["name"] == "distillation" and said["teacher"] == record(kept)["sha256"]
    assert record(kept)["objective"] == {"name": "cross-entropy", "temperature": 10.0}
    # The teacher that is there is taken, and gives the same student.
    again = distill(student, replace(teacher, epochs=5), data, kept, progress=False)
    assert difference(first, again) == 0
    with pytest.raises(CheckpointError, match="student is asked for as fp, but .* says w2a4"):
        distill(student, teacher, data, folder, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "goal, precision", [(PGD, FULL), (FGSM, Precision(2, 4)), (PENALTY, Precision(2, 4))], ids=str
)
def test_trainings_resume_to_the_same_weights(data, tmp_path, monkeypatch, goal, precision):
    few = data.first(320)  # five steps an epoch
    if goal.start == 0 and hasattr(goal, "clip_range"):
        goal = replace(goal, start=1)
    run = settings(precision, objective=goal, epochs=3, options={"nb_filters": 2})
    whole = train(run, few, progress=False)
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1)
    with killed_after(monkeypatch, 8):
        train(run, few, str(tmp_path), progress=False)
    resumed = train(run, few, str(tmp_path), resume=True, progress=False)
    assert checkpoints.digest(resumed) == checkpoints.digest(whole)
    assert record(str(tmp_path))["objective"]["name"] == goal.name


@pytest.mark.slow
def test_stochastic_trainings_resume_to_the_same_weights(data, tmp_path, monkeypatch):
    few = data.first(320)
    options = {"nb_filters": 2, "stochastic_rounding": True}
    run = settings(Precision(2, 4), epochs=2, options=options)
    whole = train(run, few, progress=False)
    with killed_after(monkeypatch, 8):
        train(run, few, str(tmp_path), progress=False)
    resumed = train(run, few, str(tmp_path), resume=True, progress=False)
    assert checkpoints.digest(resumed) == checkpoints.digest(whole)
    plain = train(replace(run, options={"nb_filters": 2}), few, progress=False)
    assert difference(whole, plain) > 1e-3


@pytest.mark.slow
def test_adversarial_training_waits_for_its_delay(data):
    few = data.first(320)
    plain = train(settings(epochs=1), few, progress=False)
    run = settings(objective=replace(PGD, start=1))
    # A rate of zero in the second epoch leaves what the first one made.
    waited = train(replace(run, schedule=((1, 0.0),)), few, progress=False)
    assert difference(waited, plain) == 0
    assert difference(train(run, few, progress=False), plain) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("draws", [False, True], ids=["engine", "layers"])
@pytest.mark.parametrize("goal", [PGD, FGSM], ids=lambda goal: goal.name)
def test_networks_with_batch_normalisation_are_trained_adversarially(data, goal, draws):
    """Inside the attack's loop normalisation is by moving statistics, outside by the batch's.

    A network that draws at random is attacked layer by layer, as every network is on a GPU.
    """
    precision = Precision(2, 4) if draws else FULL
    options = {"nb_filters": 4, "stochastic_rounding": draws}
    run = settings(
        network=NORMALISED, precisions=(precision,), options=options, objective=goal, epochs=1
    )
    arrays = train(run, data.first(320), progress=False)
    family = "lp" if draws else "fp"
    assert np.abs(arrays[f"{family}_bn1/moving_mean"]).max() > 1e-3
    assert all(np.isfinite(array).all() for array in arrays.values())


POOLED_TRAININGS = """
import sys
import numpy as np
from empir.data import Dataset
from empir.nn import architecture
from empir.nn.precision import FULL, Precision
from empir.training import Settings, objectives, train

random = np.random.RandomState(0)
images = random.uniform(size=(64, 32, 32, 3)).astype(np.float32)
data = Dataset("noise", "train", images, random.randint(0, 10, 64), 10, (0.0, 1.0), "noise")
draws = sys.argv[1] == "draws"
options = {"nb_filters": 4, "stochastic_rounding": draws}
member = (architecture("CIFARconv"), (Precision(4, 2) if draws else FULL,) * 3, options)
for goal in (
    objectives.FGSMTraining(0.1, (0.0, 1.0)),
    objectives.PGDTraining(0.1, 0.05, 2, (0.0, 1.0)),
    objectives.InputGradientRegularisation(100.0, 1.0),
):
    settings = Settings(
        *member, epochs=1, batch_size=32, learning_rate=0.001, seed=5, objective=goal
    )
    train(settings, data, progress=False)
    print(goal.name)
"""


@pytest.mark.slow
@pytest.mark.onednn
def test_onednn_takes_the_graphs_of_networks_with_pools():
    """In new processes: where intel-tensorflow does not like a graph it aborts. Whether it does
    depends on memory addresses too, so that a defect may show in some runs of this test only."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", POOLED_TRAININGS, kernels],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        for kernels in ("fixed", "draws")
    ]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.split() == [FGSM.name, PGD.name, PENALTY.name]


@pytest.mark.slow
def test_a_training_starts_from_given_weights(data):
    few = data.first(320)
    first = train(settings(epochs=1), few, progress=False)
    still = settings(seed=9, schedule=((0, 0.0),))
    assert difference(train(still, few, progress=False, initial=first), first) == 0
    with pytest.raises(CheckpointError, match="to start from is not a low-precision MNISTconv"):
        train(settings(Precision(2, 4)), few, progress=False, initial=first)


@pytest.mark.parametrize(
    "goal, says",
    [
        (replace(PGD, start=2), "delay=2 leaves none of 2 epochs"),
        (replace(PGD, eps=0.0), "eps=0.0 must be positive"),
        (replace(PGD, nb_iter=-1), "nb_iter=-1 must be positive"),
        (replace(PGD, nb_iter=2**31), "nb_iter=2147483648 must be .* at most 2147483647"),
        (replace(PGD, nb_iter=1.5), "nb_iter=1.5 must be positive, an integer"),
        (replace(FGSM, eps=float("nan")), "eps=nan must be positive and finite"),
        (replace(FGSM, radius="x"), "radius='x': choose from scaled, released"),
        (replace(PENALTY, l2dbl=0.0, l2cs=0.0), "needs one of them above 0"),
        (replace(PENALTY, l2cs=-1.0), "l2cs=-1"),
        (replace(PENALTY, l2dbl=float("inf")), "l2dbl=inf must be finite"),
        (replace(PENALTY, l2cs=float("nan")), "l2cs=nan must be finite"),
        (objectives.Distillation(1.0, float("nan"), 1), "hard=nan must be finite"),
        (objectives.Distillation(0.0, 1, 1), "logit_divisor=0.0 must be positive"),
    ],
)
def test_bad_parameters_are_named(data, goal, says):
    with pytest.raises(EmpirError, match=says):
        train(settings(objective=goal), data, progress=False)
