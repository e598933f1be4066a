"""The network of `--rand`: its variables, its draws, and that it trains and is attacked."""

import numpy as np
import pytest

from empir import attacks
from empir.commands import checkpoints as command
from empir.data import mnist
from empir.errors import CheckpointError, EmpirError
from empir.evaluation.views import EOT_SAMPLES, AttackedEnsemble
from empir.fast.engine import engine_for
from empir.models import checkpoints
from empir.models.ensemble import Ensemble
from empir.models.member import Member, load_member
from empir.nn import Architecture, architecture, weights
from empir.nn.precision import FULL, Precision
from empir.nn.quantizers import NormalWeights
from empir.runtime import keras, tf
from empir.training import train
from tests.support.released import NAMES, SHAPES, narrow
from tests.support.trainings import difference, killed_after, settings

NETWORK, PLAIN = architecture("MNISTconvRand"), architecture("MNISTconv")


def test_it_is_mnistconv_with_a_factor_under_the_originals_names(session):
    model = NETWORK.build(nb_filters=64)
    variables = weights(model)
    names = NETWORK.released_names["fp"]
    shapes = {names[own]: tuple(v.shape.as_list()) for own, v in variables.items()}
    assert shapes == dict(zip(NAMES["MNISTconvRand"]["fp"], SHAPES["MNISTconvRand"](64)))
    assert model.count_params() == 709888 + 1
    session.run(tf.global_variables_initializer())
    kernel, factor = session.run([variables["conv3/kernel"], model.get_layer("relu3").scale])
    assert factor == np.float32(0.05)
    # A normal of deviation 0.2 that is cut at two deviations has a deviation of 0.88 * 0.2, which
    # 409,600 draws give within 1 %; a normalised kernel would have 1 / sqrt(3200) = 0.018.
    assert kernel.std() == pytest.approx(0.88 * 0.2, rel=0.01) and np.abs(kernel).max() <= 0.4


def test_the_third_convolution_is_another_in_every_pass_and_right_on_average(session, random):
    tf.set_random_seed(0)  # the same draws in every run of the test
    model = NETWORK.build(nb_filters=2, seed=3)
    x = tf.constant(random.uniform(size=(4, 28, 28, 1)), tf.float32)
    layers = ["relu2", "conv3", "relu3"]
    tensors = [model.get_layer(name).output for name in layers]
    session.run(tf.global_variables_initializer())
    feed = {model.input: session.run(x)}
    runs = [session.run(tensors, feed) for _ in range(500)]
    before, after, rectified = (np.stack(of_layer) for of_layer in zip(*runs))
    np.testing.assert_array_equal(before[0], before[-1])
    assert (after[0] != after[1]).any()
    # The kernel's own convolution is the mean; an output's deviation is the norm of its 100 inputs.
    kernel = session.run(model.get_layer("conv3").kernel)
    expected = np.einsum("nhwi,hwio->no", before[0], kernel)[:, None, None]
    deviation = np.sqrt((before[0] ** 2).sum(axis=(1, 2, 3)))[:, None, None, None]
    # Means of 500 draws of 16 outputs within five standard errors; a deviation's own is 3 %.
    assert (np.abs(after.mean(axis=0) - expected) < 5 * deviation / np.sqrt(500)).all()
    np.testing.assert_allclose(after.std(axis=0), deviation + 0 * expected, rtol=0.15)
    np.testing.assert_allclose(rectified, 0.05 * np.maximum(after, 0), rtol=1e-6)


def test_gradients_pass_a_draw_unchanged(session):
    kernel = tf.constant(np.zeros((3, 2), np.float32))
    drawn = NormalWeights(2.0)(kernel)
    assert (session.run(tf.gradients(drawn * [[1.0, 5.0]], kernel)[0]) == [1, 5]).all()
    assert NormalWeights.from_config(NormalWeights(2.0, 7).get_config()).stddev == 2.0


def test_it_has_no_precision():
    with pytest.raises(EmpirError, match="MNISTconvRand is at full precision only"):
        NETWORK.build(Precision(2, 4))


def noisy(build, x, f):
    """A linear layer of images with noise that a layer of Keras' own draws."""
    x = keras.layers.Lambda(lambda y: y + tf.random_normal(tf.shape(y)), name="noise")(x)
    return build.linear(build.flatten(x), "logits", 10)


def blurred(build, x, f):
    """A linear layer behind a convolution whose kernel is drawn."""
    return build.linear(build.flatten(build.random_conv(x, "conv1", f, 3)), "logits", 10)


OWN = dict(input_shape=(28, 28, 1), num_classes=10, quantized_layers=(), nb_filters=2)


@pytest.mark.parametrize("layers", [noisy, blurred])
def test_attacks_average_passes_of_an_own_network_that_says_that_it_draws(session, layers):
    model = Architecture("own", layers, draws=True, **OWN).build(trainable=False)
    member = Member(model, [FULL])
    assert member.draws and engine_for(model) is None
    assert AttackedEnsemble(Ensemble([member])).view.samples == EOT_SAMPLES


def test_a_network_of_random_kernels_must_say_that_it_draws(session):
    with pytest.raises(EmpirError, match="own draws kernels at random: register it with draws"):
        Architecture("own", blurred, **OWN).build()


def test_it_trains_to_a_checkpoint_that_is_read_back_and_attacked(tmp_path, session, monkeypatch):
    data, folder = mnist.load(sample=True).first(320), str(tmp_path)
    run = settings(network=NETWORK, epochs=2)
    whole = train(run, data, progress=False)
    with killed_after(monkeypatch, 7):
        train(run, data, folder, progress=False)
    trained = train(run, data, folder, resume=True, progress=False)
    assert checkpoints.digest(trained) == checkpoints.digest(whole)  # draws follow the step
    again = train(settings(network=NETWORK, epochs=1), data, progress=False)
    assert difference(trained, again) > 1e-3
    factor = trained["fp_randsrelu3_fp_init/activation_scalar"]
    assert factor.shape == () and factor != np.float32(0.05)
    assert checkpoints.digest(checkpoints.read(folder)) == checkpoints.digest(trained)
    assert "full-precision MNISTconvRand, fp, 4 filters" in command.describe(folder)

    member = load_member(NETWORK, FULL, folder, session)
    assert member.draws and member.engine is None and member.is_full_precision
    assert member.sha256 == checkpoints.digest(trained)
    x = tf.constant(data.images[:8])
    logits = member.get_logits(x)
    assert (session.run(logits) != session.run(logits)).any()
    pgd = attacks.create("pgd", Ensemble([member]).target("pgd"), session)
    found = pgd.generate_np(data.images[:4], eps=0.1, eps_iter=0.05, nb_iter=3)
    assert 0 < np.abs(found - data.images[:4]).max() <= 0.1 + 1e-6


@pytest.mark.parametrize(
    "asked, saved, says",
    [
        (PLAIN, "MNISTconvRand", r"it is the network of --rand"),
        (NETWORK, "MNISTconv", r"it is not the network of --rand"),
    ],
)
def test_checkpoints_of_the_one_network_are_not_taken_for_the_other(
    asked, saved, says, tmp_path, session
):
    checkpoints.save(str(tmp_path), narrow("fp", network=saved))
    with pytest.raises(CheckpointError, match=says):
        load_member(asked, FULL, str(tmp_path), session)
