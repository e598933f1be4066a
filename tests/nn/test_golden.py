"""This project computes what the authors' original code computes (tests/golden/README.md).

How close is close. Full-precision results differ by the rounding of sums. A low-precision network
amplifies that: its convolutions sum multiples of 1/45, so activations are often exactly 0 or 1 in
exact arithmetic, and rounding decides whether they pass the clip's gradient. Computed in float64,
MNIST's member 1 under its own BIM agrees with the original in fewer than half of the pixels, though
the first step does in 99.9 %. So where rounding differs, one-step attacks are compared pixel by
pixel, iterated attacks on low-precision gradients by decisions and norms.

The original divides by a constant, which TensorFlow's graph optimizer turns into a multiplication
by its reciprocal: its levels are k * (1/15), some a rounding error off k/15. This project's are
k/15 (`quantizers.quantize_k`), which decides those ties otherwise. So the tests run
three times: "reciprocal", with the original's division, where they ask for what the original's own
two builds agree in; "exact", with this project's, where `EXACT` says what the rounding error may
change; and "engine", the same with the convolutions of `empir.fast.engine`.
"""

import os
from typing import Callable, NamedTuple

import numpy as np
import pytest

from empir import attacks
from empir.attacks import pgd
from empir.attacks.pgd import ProjectedGradientDescent
from empir.models.ensemble import Ensemble, majority_probs
from empir.models.member import ready_member
from empir.nn import architecture, family, quantizers, weights
from empir.nn.precision import FULL, Precision, per_layer
from empir.nn.quantizers import DoReFaActivations, DoReFaWeights
from empir.runtime import assign
from empir.runtime import session as new_session
from empir.runtime import tf
from tests.golden import recipe
from tests.support import GOLDEN

pytestmark = pytest.mark.slow  # it builds many networks

ARCHITECTURES = {"mnist": "MNISTconv", "cifar10": "CIFARconv"}

#: Least fraction of equal pixels where the gradient is the full-precision member's alone.
FULL_PRECISION_PIXELS = {"fgsm": 0.9999, "bim": 0.9999, "pgd": 0.93, "cw": 0.992}


class Allowed(NamedTuple):
    """How far an attack's result may be from the original's."""

    decisions: int = 0
    pixels: float = 0.0  # least fraction that is equal
    norm: float = 1e-2  # relative


#: With exact levels, through low-precision gradients: ties are decided otherwise.
EXACT = {
    ("mnist", "ensemble", "fgsm"): Allowed(pixels=0.997),
    ("mnist", "ensemble", "pgd"): Allowed(),
    # Of 24 images, one with oneDNN's AVX-512 kernels and three with those of AVX2.
    ("mnist", "model1", "fgsm"): Allowed(decisions=3, pixels=0.996),
    ("mnist", "model1", "bim"): Allowed(decisions=1),
    ("mnist", "model1", "pgd"): Allowed(decisions=1),
    ("mnist", "model1", "cw"): Allowed(pixels=0.992),
    ("cifar10", "ensemble", "fgsm"): Allowed(decisions=2, pixels=0.98),
    ("cifar10", "ensemble", "pgd"): Allowed(),
    ("cifar10", "model1", "fgsm"): Allowed(pixels=0.98),
    ("cifar10", "model1", "bim"): Allowed(decisions=2),
    ("cifar10", "model1", "pgd"): Allowed(decisions=4),
    # The early abort of the whole batch turns on a comparison within rounding, five iterations
    # earlier or later: the mean norm is 3.10 instead of 2.82, without the abort 2.81 and 2.82.
    ("cifar10", "model1", "cw"): Allowed(norm=0.12),
}
#: With the original's division. MNIST's PGD: see the last test here.
RECIPROCAL = {
    ("mnist", "ensemble", "pgd"): Allowed(pixels=0.6),
    ("mnist", "model1", "bim"): Allowed(pixels=0.92),  # found: 0.94 with AVX2's kernels
    ("mnist", "model1", "pgd"): Allowed(),
}
RECIPROCAL_PIXELS = {"fgsm": 0.999, "bim": 0.999, "pgd": 0.93, "cw": 0.992}


def allowed(dataset, levels, name, attack) -> Allowed:
    """How far a result may be from the original's."""
    if name == "model3" or (name == "ensemble" and attack in ("bim", "cw")):
        # PGD's random starts lie where gradients are within rounding of zero, whose signs differ
        # between processors: layer by layer, 1.2e-4 on Sapphire Rapids.
        norm = 3e-4 if attack == "pgd" else 1e-4
        return Allowed(pixels=FULL_PRECISION_PIXELS[attack], norm=norm)
    case = (dataset, name, attack)
    if levels != "reciprocal":
        return EXACT[case]
    return RECIPROCAL.get(case, Allowed(pixels=RECIPROCAL_PIXELS[attack]))


def parameters(dataset, attack):
    """An attack's parameters in the golden run."""
    case = recipe.DATASETS[dataset]
    clip = dict(zip(("clip_min", "clip_max"), case["clip"]))
    iterated = dict(eps=case["eps"], eps_iter=0.01, nb_iter=10, **clip)
    descent = dict(binary_search_steps=1, max_iterations=50, learning_rate=0.1, initial_const=10)
    return {
        "fgsm": dict(eps=case["eps"], **clip),
        "bim": iterated,
        "pgd": dict(iterated, start=recipe.pgd_start(dataset)),
        "cw": dict(descent, batch_size=case["count"], **clip),
    }[attack]


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def dataset(request):
    """Whose golden outputs are compared."""
    return request.param


@pytest.fixture(scope="module")
def golden(dataset):
    """The stored outputs."""
    with np.load(os.path.join(GOLDEN, dataset + ".npz")) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.fixture(scope="module")
def images(dataset):
    """The 24 images."""
    return recipe.images(dataset)


@pytest.fixture(scope="module", params=["exact", "reciprocal", "engine"])
def levels(request):
    """How quantizers divide: as this project, or as the original in TensorFlow's optimizer.

    "engine" is this project's division in networks computed by `empir.fast.engine`; the other two
    are layer by layer.
    """
    patch = pytest.MonkeyPatch()
    if request.param == "reciprocal":
        patch.setattr(quantizers, "divide", lambda x, steps: x / steps)
    yield request.param
    patch.undo()


@pytest.fixture(scope="module")
def network(dataset, levels):
    """(session, members): the recipe's members in a graph of their own."""
    chosen = architecture(ARCHITECTURES[dataset])
    bits = [Precision(*pair) for pair in recipe.DATASETS[dataset]["precision"]] + [FULL]
    with tf.Graph().as_default(), new_session() as session:
        members = []
        for number, precision in enumerate(bits, 1):
            precisions = per_layer(precision, len(chosen.quantized_layers))
            model = chosen.build(precisions, trainable=False)
            variables = weights(model)
            drawn = {}
            for own, released in chosen.released_names[family(precisions)].items():
                shape = variables[own].shape.as_list()
                drawn[variables[own]] = recipe.weight(dataset, number, released, shape)
            assign(drawn, session)
            members.append(ready_member(model, precisions, session, levels == "engine"))
        yield session, members


class Attacked(NamedTuple):
    """A model that the original attacked.

    Attributes:
      prefix: of the golden keys.
      decided: name of the golden decisions.
      ensemble: the model.
      decide: images [n, h, w, c] -> decisions; its operations serve all attacks.
    """

    prefix: str
    decided: str
    ensemble: Ensemble
    decide: Callable


@pytest.fixture(scope="module")
def attacked(network, levels, images):
    """What the original attacked, by name."""
    session, members = network
    found = {
        "ensemble": ("", "vote", Ensemble(members, "vote", "released")),
        "model1": ("model1_", "pred", Ensemble(members[:1])),
        "model3": ("model3_", "pred", Ensemble(members[2:])),
    }
    if levels == "reciprocal":
        del found["model3"]  # it has no quantizer: the same as with exact levels
    x = tf.placeholder(tf.float32, images.shape)

    def decider(ensemble):
        decision = ensemble.decision(x)
        return lambda images: session.run(decision, {x: images})

    return {name: Attacked(*told, decider(told[2])) for name, told in found.items()}


def test_recipe_makes_the_images_that_were_attacked(golden, images):
    assert images.astype(np.float64).sum() == golden["x_sum"]


def test_quantized_values_are_the_levels_themselves(network, levels, images):
    session, members = network
    weight_bits, activation_bits = members[0].precisions[0]
    x = tf.placeholder(tf.float32, images.shape)
    quantized = session.run(DoReFaActivations(activation_bits)(x), {x: images})
    found = [(quantized, level_values(activation_bits))]
    for layer in ("conv1", "conv2", "conv3"):
        kernel = members[0].model.get_layer(layer).quantized_kernel
        found.append((session.run(kernel), 2 * level_values(weight_bits) - 1))
        latent = members[0].model.get_layer(layer).kernel
        quantized = session.run(DoReFaWeights(weight_bits)(latent))
        np.testing.assert_array_equal(session.run(kernel), quantized)
    on_levels = all(np.isin(values, expected).all() for values, expected in found)
    # Each dataset has a quantizer of 4 bits, where 1/15 is not exact.
    assert on_levels == (levels != "reciprocal")


def level_values(bits):
    """The 2^bits levels k / (2^bits - 1), float32."""
    steps = 2**bits - 1
    return np.arange(steps + 1, dtype=np.float32) / np.float32(steps)


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


@pytest.mark.parametrize("attack", ["fgsm", "bim", "pgd", "cw"])
def test_attack(network, attacked, dataset, levels, golden, images, attack):
    for name, (prefix, decided, ensemble, decide) in attacked.items():
        found = attacks.create(attack, ensemble.target(attack), network[0]).generate_np(
            images, **parameters(dataset, attack)
        )
        stored = golden[prefix + attack + "_adv"]
        bound = allowed(dataset, levels, name, attack)
        wrong = np.sum(decide(found) != golden["%s%s_%s" % (prefix, attack, decided)])
        assert wrong <= bound.decisions, name
        assert np.mean(np.abs(found - stored) < 1e-4) >= bound.pixels, name
        norm = np.linalg.norm(found - images) / np.linalg.norm(stored - images)
        assert abs(norm - 1) < bound.norm, name


@pytest.mark.parametrize("dataset", ["mnist"], indirect=True)
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
    settings = parameters("mnist", "pgd")

    def agreement():
        found = ProjectedGradientDescent(target, sess=session).generate_np(images, **settings)
        return np.mean(np.abs(found - stored) < 1e-4)

    summed = agreement()
    gradient = pgd.cross_entropy_and_gradient
    divisors = []

    def averaged_gradient(logits, labels):
        loss, at_logits = gradient(logits, labels)
        divisors.append(len(images))
        return loss / len(images), at_logits / len(images)

    monkeypatch.setattr(pgd, "cross_entropy_and_gradient", averaged_gradient)
    averaged = agreement()
    assert divisors == [24]
    assert averaged >= summed > 0.6
