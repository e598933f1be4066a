"""What all attacks share: CleverHans' interface, and what they accept as images and labels."""

import functools
from typing import Callable, NamedTuple, Optional, Tuple

import numpy as np
from cleverhans import attacks as cleverhans_attacks
from cleverhans.model import Model, NoSuchLayerError
from tensorflow.python.eager.function import defun_with_attributes

from empir import runtime
from empir.attacks import MOST
from empir.errors import EmpirError
from empir.runtime import keras, tf

#: Share of the range by which images may leave it: float32 rounds.
ROUNDING = 1e-5


class Assessment(NamedTuple):
    """What an attack learns of images; a tuple, which functions inside of graphs return.

    Attributes:
      loss: float32 [n], what the attack maximises.
      gradient: of the loss at the image, of the image's shape.
      success: bool [n], whether the image is adversarial.
    """

    loss: tf.Tensor
    gradient: tf.Tensor
    success: tf.Tensor


class ModelWithLoss(Model):
    """A model that brings the loss to attack it with, and its own criterion of success.

    FGSM, Auto-PGD and the square attack follow it in place of a loss of the model's logits.
    """

    def assess(self, image, labels, toward=None) -> Assessment:
        """Loss, gradient and success at images.

        Args:
          image: float32 [n, ...].
          labels: true classes, one-hot float32 [n, classes].
          toward: wrong classes that are to win, one-hot float32 [n, classes]; None means any.
        """
        raise NotImplementedError

    def score(self, image, labels) -> tuple:
        """Loss, float32 [n], and success, bool [n], for attacks that need no gradient."""
        raise NotImplementedError


class Attack(cleverhans_attacks.Attack):
    """A CleverHans attack on any CleverHans model or Keras model.

    Args:
      model: a `cleverhans.model.Model` with logits, or a Keras classifier: what its last softmax
        reads are the logits, or else its outputs.
      back: "tf", as CleverHans requires.
      sess: session for `generate_np`; default: TensorFlow's default session.
      dtypestr: as CleverHans.

    Subclasses list their parameters with defaults in `defaults`; `feedable_kwargs` among them may
    be tensors. Unknown parameters are an error, not ignored.
    """

    #: Number of shares of the examples that are computed side by side, see `in_shares`.
    shares = 1
    defaults: dict = {}
    feedable: Tuple[str, ...] = ("y", "y_target", "clip_min", "clip_max")

    def __init__(self, model, back="tf", sess=None, dtypestr="float32"):
        if isinstance(model, keras.models.Model):
            from empir.models.keras_member import KerasMember

            model = KerasMember(model)
        if not isinstance(model, Model):
            raise EmpirError(
                "%s attacks a cleverhans.model.Model or a Keras model, not %r"
                % (type(self).__name__, model)
            )
        super().__init__(model, back, sess, dtypestr)
        self.feedable_kwargs = {name: self._feed_type(name) for name in self.feedable}
        self._classes = {}  # of images of a shape
        self.structural_kwargs = [name for name in self.defaults if name not in self.feedable]

    def _feed_type(self, name):
        return np.int64 if name == "index" else self.np_dtype

    def construct_variables(self, kwargs):
        """As CleverHans, with graphs cached per set of fed arguments; None means not given."""
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        self._check_names(kwargs)
        fixed, feedable, key = super().construct_variables(kwargs)
        return fixed, feedable, key if key is None else (key, tuple(sorted(feedable)))

    def generate_np(self, x_val, **kwargs):
        """Adversarial examples for an array of images [n, ...], as an array of its shape.

        Args:
          x_val: floats, in [clip_min, clip_max] if the attack has that range.
          **kwargs: parameters of the attack; y and y_target: integers [n] or one-hot [n, classes].

        Raises:
          EmpirError: for images of integers, NaN, or values outside the range; for labels of
            another shape, or that are no classes.
        """
        given = dict(self.defaults, **kwargs)
        images = checked_images(x_val, given.get("clip_min"), given.get("clip_max"))
        for name in ("y", "y_target"):
            if kwargs.get(name) is not None:
                classes = functools.partial(self._count_classes, images.shape[1:])
                kwargs[name] = checked_labels(name, kwargs[name], len(images), classes)
        return super().generate_np(images, **kwargs)

    def _count_classes(self, shape):
        """The number of classes of the model for images of a shape."""
        if shape not in self._classes:
            images = tf.placeholder(self.tf_dtype, (None,) + shape)
            self._classes[shape] = self._logits(images).shape[-1].value
        return self._classes[shape]

    def parse_params(self, **kwargs):
        """Set every parameter as an attribute, defaults included; returns True.

        Raises:
          EmpirError: for an unknown parameter, both y and y_target, or a value out of range.
        """
        self._check_names(kwargs)
        for name, default in self.defaults.items():
            setattr(self, name, kwargs.get(name, default))
        if self.y is not None and self.y_target is not None:
            raise EmpirError("y (untargeted) and y_target (targeted) exclude each other")
        if (self.clip_min is None) != (self.clip_max is None):
            raise EmpirError("clip_min and clip_max go together; give both or neither")
        return True

    def _check_names(self, kwargs):
        unknown = sorted(set(kwargs) - set(self.defaults))
        if unknown:
            raise EmpirError(
                "%s has no parameter %s; it has %s"
                % (type(self).__name__, ", ".join(unknown), ", ".join(sorted(self.defaults)))
            )

    def _check_positive(self, *names, zero=False):
        for name in names:
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not (0 <= value < np.inf and (zero or value)):
                raise EmpirError(
                    "%s=%r must be finite and %s"
                    % (name, value, "at least 0" if zero else "greater than 0")
                )

    def _check_counts(self, *names):
        for name in names:
            value = getattr(self, name)
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not whole or not 1 <= value <= MOST:
                raise EmpirError("%s=%r must be an integer of 1..%d" % (name, value, MOST))

    def _check_seed(self, bits: int = 63):
        if not 0 <= self.seed < 2**bits:
            raise EmpirError("seed=%r must be 0..2^%d - 1" % (self.seed, bits))

    @property
    def parameters(self) -> dict:
        """The parsed parameters that are plain data, for records and `repr`."""
        plain = {name: getattr(self, name, default) for name, default in self.defaults.items()}
        return {
            name: "inf" if value == np.inf else value
            for name, value in sorted(plain.items())
            if isinstance(value, (bool, int, float, str))
        }

    def __repr__(self):
        arguments = ", ".join("%s=%s" % item for item in self.parameters.items())
        return "%s(%s)" % (type(self).__name__, arguments)

    def _logits(self, x):
        try:
            return self.model.get_logits(x)
        except NoSuchLayerError:
            probs = self.model.get_probs(x)
        if probs.op.type != "Softmax":
            raise EmpirError(
                "%s needs logits, but the model offers probabilities only; used as logits they "
                "would hide gradients" % type(self).__name__
            )
        return probs.op.inputs[0]

    def _logits_for(self, x, labels):
        """Logits [n, classes] of images whose one-hot labels must have as many classes."""
        logits = self._logits(x)
        found, given = logits.shape[-1].value, labels.shape[-1].value
        if None not in (found, given) and found != given:
            raise EmpirError("y has %d classes, but the model has %d" % (given, found))
        return logits

    def _labels(self, x):
        """One-hot labels [n, classes] to move away from or, if targeted, to reach; and which."""
        if x.dtype != self.tf_dtype:
            raise EmpirError(
                "x is of type %s: %s takes images of %s"
                % (x.dtype.name, type(self).__name__, self.tf_dtype.name)
            )
        for name in ("y_target", "y"):
            given = getattr(self, name)
            if given is not None:
                labels = label_tensor(name, given, x, lambda: self._logits(x).shape[-1].value)
                return tf.stop_gradient(labels), name == "y_target"
        if hasattr(self.model, "decision"):
            decision, classes = self.model.decision(x), self._logits(x).shape[-1].value
        else:
            logits = self._logits(x)
            decision, classes = tf.argmax(logits, axis=1), logits.shape[-1].value
        return tf.one_hot(decision, classes, dtype=self.tf_dtype), False


def in_shares(attack, *tensors, shares: int):
    """`attack(*tensors)`, by shares of the examples that run side by side.

    A loop per thread is faster than threads that meet after every operation. Shares have one size:
    the last ones are filled up with the last example.

    Args:
      attack: takes the tensors of a share and returns one tensor, or a structure of them.
      tensors: all of shape [n, ...].
      shares: number of shares; 1 computes all examples at once.
    """
    if shares == 1:
        return attack(*tensors)
    examples = tf.shape(tensors[0])[0]
    size = (examples + shares - 1) // shares
    rows = tf.minimum(tf.range(shares * size), examples - 1)
    padded = [tf.gather(tensor, rows) for tensor in tensors]
    found = []
    for start in [number * size for number in range(shares)]:
        found.append(attack(*[tensor[start : start + size] for tensor in padded]))
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0)[:examples], *found)


def as_function(build, *like):
    """`build` as a function whose calls are one operation of the graph: what attacks differentiate.

    intel-tensorflow picks oneDNN's kernels operation by operation, in an order that follows memory
    addresses once there is a loop. In some processes it then misses the maximum pool that belongs
    to a gradient, and takes one that is ten times slower; in a training's graph it aborts the
    process. A function has no loop, and holds nothing but the attack.

    Args:
      build: takes and returns tensors.
      like: tensors whose types, and shapes but for the number of examples, its arguments have.
    """
    signature = [tf.TensorSpec([None] + t.shape.as_list()[1:], t.dtype) for t in like]
    function = defun_with_attributes(
        build, signature, attributes={"_noinline": True}, autograph=False
    )

    def call(*arguments):
        with runtime.function_options():
            return function(*arguments)

    return call


def checked_images(images, low: Optional[float], high: Optional[float]) -> np.ndarray:
    """Images [n, ...] for `generate_np` as an array; they must be floats in [low, high] if given.

    Raises:
      EmpirError: for integers, which are mostly 0..255 where [0, 1] is meant; for NaN; for values
        outside the range.
    """
    images = np.asarray(images)
    if images.dtype.kind != "f" or images.ndim < 2:
        raise EmpirError(
            "images are %s %s: give float32 [n, ...], bytes divided by 255"
            % (images.dtype, images.shape)
        )
    flat = images.reshape(len(images), -1)
    bad = ~np.isfinite(flat).all(axis=1)
    if bad.any():
        raise EmpirError("image %d holds NaN or infinity" % int(np.argmax(bad)))
    numbers = (int, float, np.number)
    if isinstance(low, numbers) and isinstance(high, numbers) and flat.size:
        slack = ROUNDING * max(abs(float(low)), abs(float(high)))
        bad = ((flat < low - slack) | (flat > high + slack)).any(axis=1)
        if bad.any():
            worst = flat[int(np.argmax(bad))]
            raise EmpirError(
                "image %d holds values of %g to %g, outside [clip_min, clip_max] = [%g, %g]: scale "
                "the images, or give their range"
                % (int(np.argmax(bad)), worst.min(), worst.max(), low, high)
            )
    return images


def checked_labels(name: str, labels, count: int, classes: Callable[[], int]) -> np.ndarray:
    """Labels for `generate_np` as one-hot float32 [n, classes], or other weights of classes.

    Args:
      name: of the parameter, for messages.
      labels: integers [n], or one-hot [n, classes].
      count: n.
      classes: gives the number of classes, where it must be known.

    Raises:
      EmpirError: for another shape or type, an integer that is no class, or a row that is zero.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuf" or labels.shape[:1] != (count,):
        raise _wrong(name, labels.dtype, labels.shape, count)
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        number = classes()
        wrong = (labels < 0) | (labels >= number)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise EmpirError(
                "%s[%d]=%d is not one of the model's %d classes" % (name, row, labels[row], number)
            )
        return np.eye(number, dtype=np.float32)[labels]
    if labels.ndim != 2:
        raise _wrong(name, labels.dtype, labels.shape, count)
    with np.errstate(invalid="ignore"):
        empty = ~(labels.sum(axis=1) > 0)
    if empty.any():
        raise EmpirError(
            "row %d of %s names no class: it is %s"
            % (int(np.argmax(empty)), name, labels[int(np.argmax(empty))][:10].tolist())
        )
    return labels.astype(np.float32)


def label_tensor(name: str, labels, x, classes: Callable[[], int]):
    """Labels for `generate` as a one-hot tensor of x's type; arguments as of `checked_labels`.

    Integers that are no class are an error where the graph runs.

    Raises:
      EmpirError: for another shape or type, as far as they are known.
    """
    if not isinstance(labels, (tf.Tensor, tf.Variable)):
        labels = np.asarray(labels)
        count = x.shape[0].value
        if count is None and labels.ndim:
            count = len(labels)
        return tf.constant(checked_labels(name, labels, count, classes), x.dtype)
    rank, rows = labels.shape.ndims, x.shape[0].value
    if rank not in (None, 1, 2) or (rank == 1 and not labels.dtype.is_integer):
        raise _wrong(name, labels.dtype.name, labels.shape, rows)
    if rank and None not in (rows, labels.shape[0].value) and labels.shape[0].value != rows:
        raise _wrong(name, labels.dtype.name, labels.shape, rows)
    if rank == 1:
        return tf.gather(tf.eye(classes(), dtype=x.dtype), labels)
    return tf.cast(labels, x.dtype)


def _wrong(name, dtype, shape, count):
    n = "n" if count is None else count
    return EmpirError(
        "%s is %s %s: give integers [%s] or one-hot [%s, classes]" % (name, dtype, shape, n, n)
    )
