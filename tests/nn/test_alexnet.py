"""AlexNet at full size: its layers, sizes and names, and the golden outputs (about a minute).

How close is close. At full precision logits differ by the rounding of sums. A low-precision AlexNet
rounds activations six times in a row; where rounding decides between two levels, later layers see
another image: one ulp more in the input can change a logit of member 2 by 1.0 of 31. With the
original's division (tests/nn/test_golden.py), three of the four images agree to 3e-4 in member 1
and one in member 2, the others differ by such flips. The golden images are stored as float16.
"""

import os

import numpy as np
import pytest

from empir import attacks, runtime
from empir.models.ensemble import Ensemble, majority_probs
from empir.models.member import ready_member
from empir.nn import architecture, family, quantizers, weights
from empir.nn.layers import layers_of
from empir.nn.precision import FULL, Precision, per_layer
from empir.records import provenance
from empir.runtime import tf
from tests.golden import recipe
from tests.support import GOLDEN, resident_megabytes
from tests.support.released import NAMES, SHAPES

pytestmark = pytest.mark.slow  # AlexNet is large

ALEXNET = architecture("AlexNet")
PRECISIONS = (Precision(2, 2), Precision(4, 4), FULL)
CLIP = dict(clip_min=-2.2, clip_max=2.7)
PARAMETERS = {
    "fgsm": dict(eps=0.1, **CLIP),
    "bim": dict(eps=0.1, eps_iter=0.01, nb_iter=3, **CLIP),
}


@pytest.fixture(scope="module")
def golden():
    """The stored outputs."""
    with np.load(os.path.join(GOLDEN, "alexnet.npz")) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.fixture(scope="module")
def images(golden):
    """The four images."""
    images = recipe.images("alexnet")
    assert images.astype(np.float64).sum() == golden["x_sum"]
    return images


@pytest.fixture(scope="module")
def released():
    """The recipe's weights of each member, by number and released name: they take long to draw."""
    shapes = SHAPES["AlexNet"](ALEXNET.nb_filters)
    return {
        number: {
            name: recipe.weight("alexnet", number, name, shape)
            for name, shape in zip(NAMES["AlexNet"][family(per_layer(precision, 6))], shapes)
        }
        for number, precision in enumerate(PRECISIONS, 1)
    }


def build_member(number, arrays, session, engine=None):
    """The recipe's member of the released arrays, its weights quantized."""
    precisions = per_layer(PRECISIONS[number - 1], 6)
    model = ALEXNET.build(precisions, trainable=False)
    variables = weights(model)
    names = ALEXNET.released_names[family(precisions)]
    runtime.assign({variables[own]: arrays[name] for own, name in names.items()}, session)
    return ready_member(model, precisions, session, engine)


@pytest.fixture(scope="module")
def resident_before(released):
    """Memory that the process holds before these networks, as other tests ran in it."""
    return resident_megabytes() if os.path.exists("/proc/self/statm") else 0


@pytest.fixture(scope="module")
def network(resident_before, released):
    """(session, members): the recipe's three members at full size."""
    with tf.Graph().as_default(), runtime.session() as session:
        yield session, [build_member(n, arrays, session) for n, arrays in released.items()]


def logits(member, session, images):
    """A member's logits for the images."""
    return session.run(member.get_logits(tf.constant(images)))


@pytest.mark.parametrize("number, most", [(1, 1.5), (2, 1.5), (3, 1e-3)])
def test_logits(network, golden, images, number, most):
    session, members = network
    found = logits(members[number - 1], session, images)
    # Flips, see above; of the full-precision member, sums of up to 9,216 terms in another order.
    assert np.abs(found - golden["logits%d" % number]).max() < most


@pytest.mark.parametrize("number, agreeing", [(1, 3), (2, 1)])
def test_images_without_a_flip_agree_with_the_originals_division(
    monkeypatch, released, golden, images, number, agreeing
):
    monkeypatch.setattr(quantizers, "divide", lambda x, steps: x / steps)
    with tf.Graph().as_default(), runtime.session() as session:
        member = build_member(number, released[number], session, engine=False)
        found = logits(member, session, images)
    stored = golden["logits%d" % number]
    np.testing.assert_array_equal(found.argmax(1), stored.argmax(1))
    assert np.sum(np.abs(found - stored).max(axis=1) < 1e-3) >= agreeing


def test_vote_and_probabilities(network, golden, images):
    session, members = network
    ensemble = Ensemble(members, "vote")
    of_members = ensemble.member_logits(tf.constant(images))
    decision, majority = session.run(
        [ensemble.decisions(of_members)["vote"], majority_probs(of_members, 2)]
    )
    np.testing.assert_array_equal(decision, golden["vote"])
    # A softmax moves by at most a quarter of a logit's difference.
    np.testing.assert_allclose(majority, golden["majority_probs"], rtol=0, atol=0.05)
    mean = np.mean([session.run(tf.nn.softmax(member)) for member in of_members], axis=0)
    np.testing.assert_allclose(mean, golden["mean_probs"], rtol=0, atol=0.05)


@pytest.mark.parametrize("attack, pixels", [("fgsm", 0.999), ("bim", 0.98)])
def test_attack(network, golden, images, attack, pixels):
    session, members = network
    ensemble = Ensemble(members, "vote", "released")
    found = attacks.create(attack, ensemble.target(attack), session).generate_np(
        images, **PARAMETERS[attack]
    )
    stored = golden[attack + "_adv"].astype(np.float32)
    decisions = session.run(ensemble.decision(tf.constant(found)))
    np.testing.assert_array_equal(decisions, golden[attack + "_vote"])
    assert np.mean(np.abs(found - stored) < 2e-3) >= pixels  # float16 rounds by up to 0.001 here
    norm = np.linalg.norm(found - images) / np.linalg.norm(stored - images)
    assert abs(norm - 1) < 2e-3


def test_three_full_size_members_stay_under_six_gigabytes(network, resident_before):
    assert provenance.peak_memory_mb() - resident_before < 6000


# Structure


def test_it_has_the_papers_number_of_weights(session):
    model = ALEXNET.build(Precision(2, 2))
    size = {name: int(np.prod(v.shape.as_list())) for name, v in weights(model).items()}
    quantized = [layer.name for layer in model.layers if getattr(layer, "kernel_quantizer", None)]
    assert quantized == ["conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    assert all(model.get_layer(name).input_quantizer.bits == 2 for name in quantized)
    assert sum(size.values()) == model.count_params() == 61284200
    assert sum(n for w, n in size.items() if w.split("/")[0] in quantized) == 56823808 + 4096


@pytest.mark.parametrize("f", [8, 32])
def test_the_width_sets_the_convolutions_shapes(f, session):
    model = ALEXNET.build(nb_filters=f)
    shapes = {layer.name: layer.output_shape[1:] for layer in layers_of(model)}
    assert shapes["conv1"] == shapes["conv1_bias"] == (54, 54, 3 * f)
    assert (shapes["conv2"], shapes["pool2"]) == ((54, 54, 8 * f), (27, 27, 8 * f))
    assert (shapes["conv3"], shapes["pool3"]) == ((27, 27, 12 * f), (14, 14, 12 * f))
    assert shapes["conv4"] == (14, 14, 12 * f)
    assert (shapes["conv5"], shapes["pool5"]) == ((14, 14, 8 * f), (6, 6, 8 * f))
    assert shapes["flatten"] == (288 * f,)
    assert (shapes["fc6"], shapes["fc7"], shapes["logits"]) == ((4096,), (4096,), (1000,))


#: docs/original.md, Checkpoint variables, without the prefixes "fp_" and "lp_".
RELEASED = {
    "conv1_init/k": (12, 12, 3, 96),
    "conv1_init/b": (1, 54, 54, 96),
    "conv2_init/k": (5, 5, 48, 256),
    "conv3_init/k": (3, 3, 256, 384),
    "conv4_init/k": (3, 3, 192, 384),
    "conv5_init/k": (3, 3, 192, 256),
    "ip1init/W": (9216, 4096),
    "ip1init/b": (4096,),
    "ip2init/W": (4096, 4096),
    "logits_init/W": (4096, 1000),
    "logits_init/b": (1000,),
}
for _number, _width in enumerate((256, 384, 384, 256, 4096, 4096), 1):
    for _name in ("gamma", "beta", "moving_mean", "moving_variance"):
        RELEASED["_batchNorm%d/batch_normalization/%s" % (_number, _name)] = (_width,)


@pytest.mark.parametrize("kind, precision", [("fp", FULL), ("lp", Precision(2, 2))])
def test_every_weight_has_its_released_name_and_shape(kind, precision, session):
    variables = weights(ALEXNET.build(precision))
    names = ALEXNET.released_names[kind]
    assert set(names) == set(variables)
    shapes = {released: tuple(variables[own].shape.as_list()) for own, released in names.items()}
    assert shapes == {"%s_%s" % (kind, name): shape for name, shape in RELEASED.items()}
