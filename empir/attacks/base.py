"""What all attacks share: CleverHans' interface, labels, and the loop of FGSM, BIM and PGD."""

import functools
from typing import NamedTuple, Tuple

import numpy as np
from cleverhans import attacks as cleverhans_attacks
from cleverhans.model import Model, NoSuchLayerError
from tensorflow.python.eager.function import defun_with_attributes

from empir import runtime
from empir.attacks import MOST
from empir.attacks.inputs import checked_images, checked_labels, label_tensor
from empir.attacks.perturbations import norm, project, unit
from empir.errors import EmpirError
from empir.runtime import keras, tf

NORMS = (np.inf, 1, 2)


class Assessment(NamedTuple):
    """What an attack learns of images.

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


class GradientAttack(Attack):
    """Steps along the gradient of the cross-entropy, projected after each: FGSM, BIM, PGD.

    Subclasses say where to start (`_start`), how far a step goes (`_step_size`) and whether the
    perturbation is projected. The loop is one `tf.while_loop`; nothing is differentiated through
    it, and what does not depend on the perturbation is outside.
    """

    def generate(self, x, **kwargs):
        """Adversarial examples for float32 images x [n, ...], as a tensor of x's shape.

        Parameters are listed in `defaults`; `y` and `y_target` are integers [n] or one-hot
        [n, classes]. With neither, the model's own decisions are the labels.
        """
        self.parse_params(**kwargs)
        labels, targeted = self._labels(x)
        labels /= tf.reduce_sum(labels, axis=1, keepdims=True)
        gradient = as_function(self._gradient, x, labels)

        def attack(x, labels, eta):
            return self._iterate(x, eta, lambda image: gradient(image, labels), targeted)

        return tf.stop_gradient(in_shares(attack, x, labels, self._start(x), shares=self.shares))

    def _iterate(self, x, eta, gradient, targeted):
        """All steps from a perturbation; the images that they lead to."""
        iterations = self._iterations()
        if iterations == 1:
            eta = self._step(x, eta, gradient, targeted)
        else:
            _, eta = tf.while_loop(
                lambda i, _: i < iterations,
                lambda i, eta: (i + 1, self._step(x, eta, gradient, targeted)),
                (tf.constant(0), eta),
                shape_invariants=(tf.TensorShape([]), x.shape),
                parallel_iterations=1,
                back_prop=False,
            )
        return self._clip(x + eta)

    def parse_params(self, **kwargs):
        """See `Attack.parse_params`; the norm order must be inf, 1 or 2."""
        super().parse_params(**kwargs)
        if self.ord not in NORMS:
            raise EmpirError("ord=%r: choose from inf, 1, 2" % (self.ord,))
        self._check_positive("eps", zero=True)
        return True

    def _step(self, x, eta, gradient, targeted):
        image = x + eta
        direction = self._direction(gradient(image)) * (-1.0 if targeted else 1.0)
        image = self._clip(image + self._step_size() * direction)
        return self._project(image - x)

    def _gradient(self, image, labels):
        if isinstance(self.model, ModelWithLoss):
            return self.model.assess(image, labels).gradient
        logits = self._logits_for(image, labels)
        loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)
        (gradient,) = tf.gradients(loss, image)
        if gradient is None:
            raise EmpirError("the model's logits do not depend on the image: nothing to attack")
        return gradient

    def _direction(self, gradient):
        if self.ord == np.inf:
            return tf.sign(gradient)
        if self.ord == 2 and isinstance(self.model, ModelWithLoss):
            return unit(gradient)  # CleverHans' floor would shorten the steps of small gradients
        return gradient / norm(gradient, self.ord)

    def _clip(self, image):
        if self.clip_min is None:
            return image
        return tf.clip_by_value(image, self.clip_min, self.clip_max)

    def _start(self, x):
        return tf.zeros_like(x)

    def _iterations(self):
        return self.nb_iter

    def _step_size(self):
        return self.eps_iter

    def _project(self, eta):
        return project(eta, self.ord, self.eps)


class IterativeAttack(GradientAttack):
    """BIM and PGD: `nb_iter` steps of `eps_iter`."""

    feedable = GradientAttack.feedable + ("eps", "eps_iter")

    def parse_params(self, **kwargs):
        """See `GradientAttack.parse_params`; 1 to `attacks.MOST` iterations."""
        super().parse_params(**kwargs)
        self._check_positive("eps_iter")
        self._check_counts("nb_iter")
        return True
