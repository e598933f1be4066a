"""This project computes what the authors' original code computes (tests/golden/README.md).

How close is close. Full-precision results differ by the rounding of sums. A low-precision network
amplifies that: its convolutions sum multiples of 1/45, so activations are often exactly 0 or 1 in
exact arithmetic, and the kernels' summation order decides whether they pass the clip's gradient.
Computed in float64, member 1's own BIM agrees with the original's in fewer than half of the pixels,
though the first step does in 99.9 %. So one-step attacks are compared pixel by pixel, iterated
attacks on low-precision gradients by decisions and norms.

The original divides by a constant, which TensorFlow's graph optimizer turns into a multiplication
by its reciprocal: its activation levels are k * (1/15), some a rounding error off k/15. This
project's are k/15 (`quantizers.quantize_k`), which decides those ties otherwise in one image of 24.
So the tests run twice: "reciprocal", with the original's division, and "exact", as the project is.
"""

import os

import numpy as np
import pytest
import recipe
from conftest import GOLDEN

from empir import attacks
from empir.attacks.pgd import ProjectedGradientDescent
from empir.backend import tf
from empir.ensemble import Ensemble, Member, majority_probs
from empir.layers import quantize_once
from empir.models import architecture, family, weights
from empir.precision import FULL, Precision, per_layer
from empir.quantizers import DoReFaActivations, DoReFaWeights
from empir.runtime import session as new_session

PRECISIONS = (Precision(2, 4), Precision(2, 4), FULL)
CLIP = dict(clip_min=0.0, clip_max=1.0)
PARAMETERS = {
    "fgsm": dict(eps=0.3, **CLIP),
    "bim": dict(eps=0.3, eps_iter=0.01, nb_iter=10, **CLIP),
    "pgd": dict(eps=0.3, eps_iter=0.01, nb_iter=10, **CLIP),
    "cw": dict(
        binary_search_steps=1,
        max_iterations=50,
        learning_rate=0.1,
        initial_const=10,
        batch_size=24,
        **CLIP,
    ),
}
#: Least fraction of equal pixels where the gradient is the full-precision member's alone.
FULL_PRECISION_PIXELS = {"fgsm": 0.9999, "bim": 0.9999, "pgd": 0.93, "cw": 0.992}


@pytest.fixture(scope="module")
def golden():
    """The stored outputs."""
    with np.load(os.path.join(GOLDEN, "mnist.npz")) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.fixture(scope="module")
def images():
    """The 24 images."""
    return recipe.images("mnist")


@pytest.fixture(scope="module", params=["exact", "reciprocal"])
def levels(request):
    """How quantizers divide: as this project, or as the original in TensorFlow's optimizer."""
    patch = pytest.MonkeyPatch()
    if request.param == "reciprocal":
        patch.setattr(tf, "div_no_nan", lambda x, steps: x / steps)
    yield request.param
    patch.undo()


@pytest.fixture(scope="module")
def network(levels):
    """(session, members): the recipe's three members in a graph of their own."""
    mnistconv = architecture("MNISTconv")
    with tf.Graph().as_default(), new_session() as session:
        members = []
        for number, precision in enumerate(PRECISIONS, 1):
            precisions = per_layer(precision, 3)
            model = mnistconv.build(precisions, trainable=False)
            variables = weights(model)
            for own, released in mnistconv.released_names[family(precisions)].items():
                shape = variables[own].shape.as_list()
                variables[own].load(recipe.weight("mnist", number, released, shape), session)
            quantize_once(model, session)
            members.append(Member(model, precisions))
        yield session, members


def ensembles(members):
    """What the original attacked: prefix of the keys, key of decisions, model."""
    return {
        "ensemble": ("", "vote", Ensemble(members, "vote", "released")),
        "model1": ("model1_", "pred", Ensemble(members[:1])),
        "model3": ("model3_", "pred", Ensemble(members[2:])),
    }


def test_recipe_makes_the_images_that_were_attacked(golden, images):
    assert images.astype(np.float64).sum() == golden["x_sum"]


def test_quantized_values_are_the_levels_themselves(network, levels, images):
    session, members = network
    x = tf.placeholder(tf.float32, images.shape)
    quantized = session.run(DoReFaActivations(4)(x), {x: images})
    expected = np.arange(16, dtype=np.float32) / np.float32(15)
    assert np.isin(quantized, expected).all() == (levels == "exact")
    for layer in ("conv1", "conv2", "conv3"):
        kernel = members[0].model.get_layer(layer).quantized_kernel
        expected = 2 * (np.arange(4, dtype=np.float32) / np.float32(3)) - 1
        assert np.isin(session.run(kernel), expected).all()
        latent = members[0].model.get_layer(layer).kernel
        np.testing.assert_array_equal(
            session.run(kernel), session.run(DoReFaWeights(2)(tf.constant(session.run(latent))))
        )


def test_logits(network, golden, images):
    session, members = network
    x = tf.constant(images)
    for number, member in enumerate(members, 1):
        # Sums of up to 3,200 float32 terms in another order.
        np.testing.assert_allclose(
            session.run(member.get_logits(x)), golden["logits%d" % number], rtol=0, atol=1e-4
        )


def test_vote_and_probabilities(network, golden, images):
    session, members = network
    x = tf.constant(images)
    ensemble = Ensemble(members, "vote")
    logits = ensemble.member_logits(x)
    np.testing.assert_array_equal(session.run(ensemble.decision(x)), golden["vote"])
    mean = tf.add_n([tf.nn.softmax(member) for member in logits]) / 3
    # Logits differ by up to 3e-5, so softmax values by no more than that.
    for found, key in ((majority_probs(logits, 2), "majority_probs"), (mean, "mean_probs")):
        np.testing.assert_allclose(session.run(found), golden[key], rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", ["ensemble", "model1", "model3"])
@pytest.mark.parametrize("attack", sorted(PARAMETERS))
def test_attack(network, levels, golden, images, attack, name):
    session, members = network
    prefix, decided, ensemble = ensembles(members)[name]
    parameters = dict(PARAMETERS[attack])
    if attack == "pgd":
        parameters["start"] = recipe.pgd_start("mnist")
    found = attacks.create(attack, ensemble.target(attack), session).generate_np(
        images, **parameters
    )
    stored = golden[prefix + attack + "_adv"]

    x = tf.constant(found)
    other = session.run(ensemble.decision(x)) != golden["%s%s_%s" % (prefix, attack, decided)]
    # Through low-precision gradients, one image of 24 may be decided by a tie (module docstring).
    assert other.sum() <= (levels == "exact" and name == "model1")
    equal = np.mean(np.abs(found - stored) < 1e-4)
    full_precision_only = name == "model3" or (name == "ensemble" and attack in ("bim", "cw"))
    if full_precision_only:
        assert equal >= FULL_PRECISION_PIXELS[attack]
    elif attack == "fgsm":
        assert equal >= (0.999 if levels == "reciprocal" else 0.997)  # ties, module docstring
    elif attack == "cw":
        assert equal >= 0.992  # as the original code differs between two builds of TensorFlow
    norm = np.linalg.norm(found - images) / np.linalg.norm(stored - images)
    # 0.01 % where only rounding differs; 1 % where flipped signs were amplified (module docstring).
    assert abs(norm - 1) < (1e-4 if full_precision_only else 1e-2)


@pytest.mark.parametrize("levels", ["reciprocal"], indirect=True)
def test_pgd_differs_from_the_original_by_the_scale_of_its_loss_only(
    network, golden, images, monkeypatch
):
    """The original averages the loss over its batch of 24, which this project must not do.

    Divided by 24, gradients round differently, and the double softmax of majority_probs leaves
    many within rounding of zero. With the original's scale at least as many pixels agree as
    without: 93.5 % and 75.0 % were measured with oneDNN kernels, 75.0 % and 69.6 % with Eigen's.
    """
    session, members = network
    target = Ensemble(members, "vote", "released").target("pgd")
    stored = golden["pgd_adv"]
    parameters = dict(PARAMETERS["pgd"], start=recipe.pgd_start("mnist"))

    def agreement():
        found = ProjectedGradientDescent(target, sess=session).generate_np(images, **parameters)
        return np.mean(np.abs(found - stored) < 1e-4)

    summed = agreement()
    cross_entropy = tf.nn.softmax_cross_entropy_with_logits_v2
    monkeypatch.setattr(
        tf.nn,
        "softmax_cross_entropy_with_logits_v2",
        lambda **arguments: tf.reduce_mean(cross_entropy(**arguments)),
    )
    averaged = agreement()
    assert averaged >= summed > 0.6
