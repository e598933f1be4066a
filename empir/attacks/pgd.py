"""FGSM, BIM and PGD, which are one loop of projected steps, and random noise.

FGSM: Goodfellow et al. 2015, arXiv 1412.6572. BIM: Kurakin et al. 2016, arXiv 1607.02533. PGD:
Madry et al. 2017, arXiv 1706.06083. Other attacks take projections and random numbers from here.
"""

import numpy as np

from empir.attacks.base import Attack, ModelWithLoss, as_function, in_shares
from empir.attacks.losses import cross_entropy_and_gradient
from empir.errors import EmpirError
from empir.runtime import DEFAULT_SEED, tf

NORMS = (np.inf, 1, 2)

FAR = 1e6  # factor that puts a normal perturbation outside any ball, so that it is projected


def project(eta, ord, eps):
    """Clip a perturbation [n, ...] to the ball of radius eps in the norm `ord` (inf, 1 or 2).

    Faithfulness: perturbations inside an L1 or L2 ball are left alone, as in CleverHans 2.1.0; the
    original always rescaled them onto its surface (docs/original.md, Defects 23).
    """
    if ord == np.inf:
        return tf.clip_by_value(eta, -eps, eps)
    return eta * tf.minimum(1.0, eps / norm(eta, ord))


def norm(eta, ord):
    """L1 or L2 norm of perturbations [n, ...], at least 1e-12 resp. 1e-6; shape [n, 1, ...]."""
    axes = list(range(1, len(eta.shape)))
    if ord == 1:
        return tf.maximum(1e-12, tf.reduce_sum(tf.abs(eta), axes, keepdims=True))
    return tf.sqrt(tf.maximum(1e-12, tf.reduce_sum(tf.square(eta), axes, keepdims=True)))


def unit(gradient):
    """Gradients [n, ...] as directions of L2 norm 1, however small they are; 0 where they are 0."""
    axes = list(range(1, len(gradient.shape)))
    largest = tf.reduce_max(tf.abs(gradient), axes, keepdims=True)
    scaled = tf.div_no_nan(gradient, largest)
    return scaled / norm(scaled, 2)


def noise(x, seed: int, index=None, normal: bool = False):
    """Random numbers of x's shape: example i's are a function of (seed, index[i]) alone.

    Args:
      x: float32 [n, ...].
      seed: 0..2^63 - 1.
      index: int64 [n]; None = 0..n-1.
      normal: standard normal numbers instead of uniform ones in [-1, 1).
    """
    if index is None:
        index = tf.range(tf.shape(x, out_type=tf.int64)[0])
    shape = tf.shape(x)[1:]

    def draw(i):
        pair = tf.stack([np.int64(seed), i])
        if normal:
            return tf.random.stateless_normal(shape, seed=pair)
        return 2 * tf.random.stateless_uniform(shape, seed=pair) - 1

    drawn = tf.map_fn(draw, tf.cast(index, tf.int64), dtype=x.dtype, back_prop=False)
    drawn.set_shape(x.shape)
    return drawn


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
        _, at_logits = cross_entropy_and_gradient(logits, labels)
        (gradient,) = tf.gradients(logits, image, grad_ys=at_logits)
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


class FastGradientMethod(GradientAttack):
    """FGSM for ord = inf; the normalised gradient for ord = 1 and 2.

    Parameters (CleverHans' names): eps, step and radius; ord; y or y_target, integers or one-hot;
    clip_min, clip_max, or None for no clipping.

    Faithfulness: equal to CleverHans 2.1.0's; a zero gradient gives no step instead of NaN.
    """

    defaults = dict(eps=0.3, ord=np.inf, y=None, y_target=None, clip_min=None, clip_max=None)
    feedable = GradientAttack.feedable + ("eps",)

    def _iterations(self):
        return 1

    def _step_size(self):
        return self.eps

    def _project(self, eta):
        return eta


class BasicIterativeMethod(GradientAttack):
    """BIM from the clean image: `nb_iter` steps of `eps_iter`; the last iterate is returned.

    Parameters (CleverHans' names): eps, radius; eps_iter, step; nb_iter, steps; ord; y or y_target,
    integers or one-hot; clip_min, clip_max, or None for no clipping.

    Faithfulness: equal to CleverHans 2.1.0's. On an ensemble it follows the target that it is
    given; the original's BIM followed the full-precision member (docs/original.md, Defects 13).
    """

    defaults = dict(
        eps=0.3,
        eps_iter=0.05,
        nb_iter=10,
        ord=np.inf,
        y=None,
        y_target=None,
        clip_min=None,
        clip_max=None,
    )
    feedable = GradientAttack.feedable + ("eps", "eps_iter")

    def parse_params(self, **kwargs):
        """See `GradientAttack.parse_params`; 1 to `attacks.MOST` iterations."""
        super().parse_params(**kwargs)
        self._check_positive("eps_iter")
        self._check_counts("nb_iter")
        return True


class ProjectedGradientDescent(BasicIterativeMethod):
    """CleverHans' MadryEtAl: one random start, `nb_iter` signed steps, last iterate returned.

    Parameters (CleverHans' names): eps, radius; eps_iter, step; nb_iter, steps; ord; rand_init; y
    or y_target, integers or one-hot; clip_min, clip_max, or None for no clipping. And, so that
    a result does not depend on how examples are batched:
      seed, index: the start of example i of a batch is drawn from (seed, index[i]); index, int64
        [n], defaults to 0..n-1.
      start: float32 perturbations of x's shape to start from instead.

    Faithfulness: steps have the gradient's sign for every `ord`, and the start is not clipped to
    [clip_min, clip_max] before the first gradient, both as CleverHans 2.1.0.
    """

    defaults = dict(
        eps=0.3,
        eps_iter=0.01,
        nb_iter=40,
        ord=np.inf,
        rand_init=True,
        seed=DEFAULT_SEED,
        index=None,
        start=None,
        y=None,
        y_target=None,
        clip_min=None,
        clip_max=None,
    )
    feedable = BasicIterativeMethod.feedable + ("index", "start")

    def parse_params(self, **kwargs):
        """See `GradientAttack.parse_params`; the seed is 0..2^63 - 1."""
        super().parse_params(**kwargs)
        self._check_seed()
        return True

    def _start(self, x):
        if not self.rand_init:
            return tf.zeros_like(x)
        if self.start is not None:
            return project(tf.convert_to_tensor(self.start, self.tf_dtype), self.ord, self.eps)
        return project(noise(x, self.seed, self.index) * self.eps, self.ord, self.eps)

    def _direction(self, gradient):
        return tf.sign(gradient)


#: CleverHans' name.
MadryEtAl = ProjectedGradientDescent


class Noise(Attack):
    """One random perturbation, uniform in the L-infinity ball or on the surface of the L2 ball.

    Parameters: eps, radius; ord, inf or 2; seed, index: the perturbation of example i is a function
    of (seed, index[i]); clip_min, clip_max, or None for no clipping; y and y_target are not read.
    """

    defaults = dict(
        eps=0.3,
        ord=np.inf,
        seed=DEFAULT_SEED,
        index=None,
        y=None,
        y_target=None,
        clip_min=None,
        clip_max=None,
    )
    feedable = Attack.feedable + ("eps", "index")

    def parse_params(self, **kwargs):
        """See `Attack.parse_params`; the norm order is inf or 2."""
        super().parse_params(**kwargs)
        if self.ord not in (np.inf, 2):
            raise EmpirError("ord=%r: choose from inf, 2" % (self.ord,))
        self._check_positive("eps", zero=True)
        self._check_seed()
        return True

    def generate(self, x, **kwargs):
        """Images x, float32 [n, ...], with noise, as a tensor of x's shape."""
        self.parse_params(**kwargs)
        drawn = noise(x, self.seed, self.index, normal=self.ord == 2)
        drawn = project(drawn * (self.eps if self.ord == np.inf else FAR), self.ord, self.eps)
        image = x + drawn
        if self.clip_min is not None:
            image = tf.clip_by_value(image, self.clip_min, self.clip_max)
        return tf.stop_gradient(image)
