"""What attacks are given: integer or one-hot labels alike, and images in the range they have."""

import numpy as np
import pytest
from cleverhans.model import Model

from empir.attacks.apgd import AutoPGD
from empir.attacks.cw import CarliniWagnerL2
from empir.attacks.pgd import BasicIterativeMethod, FastGradientMethod, ProjectedGradientDescent
from empir.attacks.square import SquareAttack
from empir.errors import EmpirError
from empir.runtime import tf
from tests.support import one_hot

CLASSES, COUNT, SHAPE = 4, 6, (5, 5, 1)
CLIP = dict(clip_min=0.0, clip_max=1.0)
ATTACKS = {
    FastGradientMethod: dict(eps=0.1, **CLIP),
    BasicIterativeMethod: dict(eps=0.1, eps_iter=0.05, nb_iter=3, **CLIP),
    ProjectedGradientDescent: dict(eps=0.1, eps_iter=0.05, nb_iter=3, **CLIP),
    CarliniWagnerL2: dict(
        batch_size=6, max_iterations=5, binary_search_steps=1, learning_rate=0.1, **CLIP
    ),
    AutoPGD: dict(eps=0.1, nb_iter=3, **CLIP),
    SquareAttack: dict(eps=0.1, nb_iter=3, **CLIP),
}
LABELS = np.array([0, 3, 1, 2, 0, 1])
TYPES = (np.int64, np.int32, np.uint8, list)

each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)


class Linear(Model):
    """Logits x w for images flattened."""

    def __init__(self):
        super().__init__()
        self.w = tf.constant(np.random.RandomState(1).randn(25, CLASSES), tf.float32)

    def fprop(self, x):
        return {"logits": tf.matmul(tf.reshape(x, [-1, 25]), self.w)}


@pytest.fixture
def images(random):
    return random.rand(COUNT, *SHAPE).astype(np.float32)


def targets(attack):
    """The names of labels that an attack takes."""
    return ("y",) if attack is SquareAttack else ("y", "y_target")


@pytest.mark.slow
@each_attack
def test_integers_are_one_hot_labels(session, images, attack):
    own, parameters = attack(Linear(), sess=session), ATTACKS[attack]
    for name in targets(attack):
        expected = own.generate_np(images, **{name: one_hot(LABELS, CLASSES)}, **parameters)
        assert not np.array_equal(expected, images)
        for kind in TYPES:
            given = LABELS.tolist() if kind is list else LABELS.astype(kind)
            found = own.generate_np(images, **{name: given}, **parameters)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@each_attack
def test_tensors_of_integers_are_one_hot_labels(session, images, attack):
    own, parameters = attack(Linear(), sess=session), ATTACKS[attack]
    x, y = tf.placeholder(tf.float32, (None,) + SHAPE), tf.placeholder(tf.int64, [None])
    expected = own.generate_np(images, y=one_hot(LABELS, CLASSES), **parameters)
    found = session.run(own.generate(x, y=y, **parameters), {x: images, y: LABELS})
    np.testing.assert_array_equal(found, expected)
    constant = own.generate(tf.constant(images), y=LABELS, **parameters)
    assert constant.shape.as_list()[1:] == list(SHAPE)


@pytest.mark.parametrize(
    "labels, says",
    [
        (np.array([0, 3, 1, 4, 0, 1]), r"y\[3\]=4 is not one of the model's 4 classes"),
        (np.array([0, -1, 1, 2, 0, 1]), r"y\[1\]=-1 is not one of"),
        (LABELS[:5], r"y is int64 \(5,\): give integers \[6\] or one-hot \[6, classes\]"),
        (LABELS.astype(np.float32), r"y is float32 \(6,\): give integers"),
        (np.array(["a"] * 6), r"y is <U1 \(6,\)"),
        (np.array(2), r"y is int64 \(\)"),
        (np.zeros((6, 4, 1)), r"y is float64 \(6, 4, 1\)"),
        (LABELS[:, np.newaxis] + 1, "y has 1 classes, but the model has 4"),
        (one_hot(LABELS, 5), "y has 5 classes, but the model has 4"),
        (one_hot(LABELS, CLASSES)[:5], r"y is float32 \(5, 4\)"),
        (one_hot(LABELS, CLASSES) * np.float32(0), "row 0 of y names no class"),
        (one_hot(LABELS, CLASSES) * np.nan, "row 0 of y names no class"),
    ],
)
@each_attack
def test_labels_that_do_not_fit_are_one_line(session, images, attack, labels, says):
    own = attack(Linear(), sess=session)
    with pytest.raises(EmpirError, match=says) as error:
        own.generate_np(images, y=labels, **ATTACKS[attack])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind, shape",
    [(tf.float32, [None]), (tf.float32, [None, 4, 1]), (tf.int64, [7]), (tf.float32, [7, 4])],
)
def test_tensors_that_do_not_fit_are_one_line(session, images, kind, shape):
    own = FastGradientMethod(Linear(), sess=session)
    with pytest.raises(EmpirError, match=r"y is .*: give integers \[6\] or one-hot"):
        own.generate(tf.constant(images), y=tf.placeholder(kind, shape), eps=0.1)


def test_a_tensor_of_an_integer_that_is_no_class_is_an_error(session, images):
    own = FastGradientMethod(Linear(), sess=session)
    y = tf.placeholder(tf.int64, [None])
    found = own.generate(tf.constant(images), y=y, eps=0.1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="= 4 is not in"):
        session.run(found, {y: [0, 1, 2, 3, 4, 0]})


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda x: (x * 255).astype(np.uint8), "images are uint8 .*divided by 255"),
        (lambda x: np.ones_like(x, int), "images are int64"),
        (lambda x: x * 255, r"image 0 holds .* outside \[clip_min, clip_max\] = \[0, 1\]"),
        (lambda x: x - np.float32(0.5), "image 0 holds values of -0"),
        (lambda x: x * np.float32(1.01) / x.max(), r"outside \[clip_min"),
        (lambda x: x * np.nan, "image 0 holds NaN"),
        (lambda x: x.ravel(), r"images are float32 \(150,\)"),
    ],
)
@each_attack
def test_images_that_are_not_in_the_range_are_refused(session, images, attack, change, says):
    own = attack(Linear(), sess=session)
    with pytest.raises(EmpirError, match=says) as error:
        own.generate_np(change(images), y=LABELS, **ATTACKS[attack])
    assert "\n" not in str(error.value)


def test_rounding_does_not_leave_the_range(session, images):
    own = FastGradientMethod(Linear(), sess=session)
    images[0, 0, 0] = np.nextafter(np.float32(1), np.float32(2))
    found = own.generate_np(images, y=LABELS, eps=0.1, **CLIP)
    assert found.max() <= 1


def test_without_a_range_any_finite_images_are_attacked(session, images):
    own = FastGradientMethod(Linear(), sess=session)
    found = own.generate_np(images * 255, y=LABELS, eps=0.1)
    assert np.abs(found - images * 255).max() == pytest.approx(0.1, abs=1e-4)  # float32 of 255


@pytest.mark.parametrize("kind", [tf.uint8, tf.int32, tf.float64])
@each_attack
def test_tensors_of_images_of_other_types_are_refused(session, attack, kind):
    own = attack(Linear(), sess=session)
    x = tf.placeholder(kind, (None,) + SHAPE)
    with pytest.raises(EmpirError, match="x is of type %s: .* takes images of float32" % kind.name):
        own.generate(x, y=LABELS, **ATTACKS[attack])
