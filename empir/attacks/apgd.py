"""Auto-PGD: projected gradient steps that set their own size. Croce and Hein 2020, 2003.01690.

The step starts at twice the radius. At checkpoints, which become more frequent, an example's step
is halved, and it goes back to the best point that it met, if its loss rose in less than `rho` of
the steps since the last checkpoint, or neither its step nor its best loss has changed since then.
"""

from typing import List, NamedTuple

import numpy as np

from empir.attacks.base import Assessment, Attack, ModelWithLoss, as_function, in_shares
from empir.attacks.losses import LOSSES, loss
from empir.attacks.pgd import noise, norm, project, unit
from empir.errors import EmpirError
from empir.runtime import DEFAULT_SEED, tf

#: Share of a step in the next one: the rest is momentum.
STEP_SHARE = 0.75
#: As shares of all steps: until the first checkpoint, how much earlier each next one comes, and
#: their least distance.
FIRST, SOONER, LEAST = 0.22, 0.03, 0.06
#: A batch shrinks in steps of one part of so many as its images reach a success.
PARTS = 8


class _State(NamedTuple):
    """State of the loop; all but the first are per example.

    It is a tuple because TensorFlow's loops carry tuples.
    """

    iteration: tf.Tensor
    image: tf.Tensor
    previous: tf.Tensor
    loss: tf.Tensor
    gradient: tf.Tensor
    step: tf.Tensor
    best_loss: tf.Tensor
    best_image: tf.Tensor
    best_gradient: tf.Tensor
    success: tf.Tensor
    adversarial: tf.Tensor
    rises: tf.Tensor  # since the last checkpoint
    halved: tf.Tensor  # at the last checkpoint
    best_then: tf.Tensor  # best loss at the last checkpoint


def checkpoints(nb_iter: int) -> List[int]:
    """Steps since the last checkpoint, at each of `nb_iter` steps that is one; 0 at others."""
    first, sooner, least = (max(int(share * nb_iter), 1) for share in (FIRST, SOONER, LEAST))
    table, since, wait = [], 0, first
    for _ in range(nb_iter):
        since += 1
        table.append(since if since == wait else 0)
        if since == wait:
            since, wait = 0, max(wait - sooner, least)
    return table


class AutoPGD(Attack):
    """Auto-PGD for ord = inf and 2, from a random start.

    The result is the first adversarial image that is met, else the one of the highest loss. An
    example's result does not depend on those that it is batched with.

    The loss is taken of the model's logits. A `ModelWithLoss` brings a loss of its own, and `loss`
    is then not read.

    Parameters: eps, radius; nb_iter, steps; ord; rho, see the module; rand_init, seed, index: as of
    `pgd.ProjectedGradientDescent`; initial: images of x's shape to start from, which are moved into
    the ball, or None for rand_init to decide; loss: one of `losses.LOSSES`; y or y_target, integers
    or one-hot, where reaching y_target is the success; toward, for y of a `ModelWithLoss`: one-hot
    classes to lead to, where any wrong class is a success; clip_min, clip_max, or None for no
    clipping.
    """

    defaults = dict(
        eps=0.3,
        nb_iter=100,
        ord=np.inf,
        rho=0.75,
        rand_init=True,
        seed=DEFAULT_SEED,
        index=None,
        initial=None,
        loss="ce",
        y=None,
        y_target=None,
        toward=None,
        clip_min=None,
        clip_max=None,
    )
    feedable = Attack.feedable + ("eps", "index", "initial", "toward")

    def parse_params(self, **kwargs):
        """See `Attack.parse_params`; the norm order is inf or 2, the loss one of `LOSSES`."""
        super().parse_params(**kwargs)
        if self.ord not in (np.inf, 2):
            raise EmpirError("ord=%r: choose from inf, 2" % (self.ord,))
        if self.loss not in LOSSES:
            raise EmpirError("loss=%r: choose from %s" % (self.loss, ", ".join(LOSSES)))
        if self.toward is not None and not isinstance(self.model, ModelWithLoss):
            raise EmpirError("toward: the model has no loss that leads to a class; use y_target")
        self._check_positive("eps", zero=True)
        self._check_counts("nb_iter")
        self._check_seed()
        return True

    def generate(self, x, **kwargs):
        """Adversarial examples for float32 images x [n, ...], as a tensor of x's shape."""
        self.parse_params(**kwargs)
        labels, targeted = self._labels(x)
        told = (labels,) if self.toward is None else (labels, self.toward)
        assess = as_function(lambda *now: tuple(self._assess(targeted, *now)), x, *told)

        def attack(x, start, *told):
            return self._loop(
                x, start, lambda image, *told: Assessment(*assess(image, *told)), told
            )

        start = x + self._noise(x) if self.initial is None else self.initial
        return tf.stop_gradient(in_shares(attack, x, start, *told, shares=self.shares))

    def _assess(self, targeted, image, labels, toward=None):
        """`Assessment` of images; `labels` are to be reached if the attack is targeted."""
        if isinstance(self.model, ModelWithLoss):
            return self.model.assess(image, labels, toward)
        logits = self._logits_for(image, labels)
        value = loss(self.loss, logits, labels)
        value = -value if targeted else value
        hit = tf.equal(tf.argmax(logits, axis=1), tf.argmax(labels, axis=1))
        return Assessment(value, tf.gradients(value, image)[0], hit if targeted else ~hit)

    def _loop(self, x, start, assess, told):
        table = tf.constant(checkpoints(self.nb_iter))
        image = self._bounded(x, start)
        first = assess(image, *told)
        none = tf.zeros_like(first.loss)
        state = _State(
            iteration=tf.constant(0),
            image=image,
            previous=image,
            loss=first.loss,
            gradient=first.gradient,
            step=none + 2 * self.eps,
            best_loss=first.loss,
            best_image=image,
            best_gradient=first.gradient,
            success=first.success,
            adversarial=image,
            rises=none,
            halved=tf.zeros_like(first.success),
            best_then=first.loss,
        )
        (state,) = tf.while_loop(
            lambda s: (s.iteration < self.nb_iter) & ~tf.reduce_all(s.success),
            lambda s: (self._adapt(self._advance(x, s, assess, told), table[s.iteration]),),
            (state,),
            shape_invariants=(self._shapes(x),),
            parallel_iterations=1,
            back_prop=False,
        )
        return tf.where(state.success, state.adversarial, state.best_image)

    def _advance(self, x, state, assess, told):
        """A step with momentum."""
        share = tf.where(state.iteration > 0, STEP_SHARE, 1.0)
        if self.ord == np.inf:
            direction = tf.sign(state.gradient)
        else:
            direction = unit(state.gradient)
        ahead = self._bounded(x, state.image + _wide(state.step, x) * direction)
        blend = share * (ahead - state.image) + (1 - share) * (state.image - state.previous)
        image = self._bounded(x, state.image + blend)
        now = _of_unfinished(assess, state, image, told)
        better = now.loss > state.best_loss
        return state._replace(
            iteration=state.iteration + 1,
            image=image,
            previous=state.image,
            loss=now.loss,
            gradient=now.gradient,
            best_loss=tf.where(better, now.loss, state.best_loss),
            best_image=tf.where(better, image, state.best_image),
            best_gradient=tf.where(better, now.gradient, state.best_gradient),
            success=state.success | now.success,
            adversarial=tf.where(now.success & ~state.success, image, state.adversarial),
            rises=state.rises + tf.cast(now.loss > state.loss, tf.float32),
        )

    def _adapt(self, state, since):
        """Halve the steps that a checkpoint finds too large; `since` is 0 where there is none."""
        here = since > 0
        idle = ~state.halved & (state.best_loss <= state.best_then)
        halve = here & (idle | (state.rises <= self.rho * tf.cast(since, tf.float32)))
        return state._replace(
            step=tf.where(halve, state.step / 2, state.step),
            image=tf.where(halve, state.best_image, state.image),
            loss=tf.where(halve, state.best_loss, state.loss),
            gradient=tf.where(halve, state.best_gradient, state.gradient),
            rises=tf.where(here, tf.zeros_like(state.rises), state.rises),
            halved=tf.where(here, halve, state.halved),
            best_then=tf.where(here, state.best_loss, state.best_then),
        )

    def _noise(self, x):
        if not self.rand_init:
            return tf.zeros_like(x)
        drawn = noise(x, self.seed, self.index, normal=self.ord == 2)
        axes = list(range(1, len(x.shape)))
        if self.ord == 2:
            return self.eps * drawn / norm(drawn, 2)
        return self.eps * drawn / tf.reduce_max(tf.abs(drawn), axes, keepdims=True)

    def _bounded(self, x, image):
        """The image inside the ball around x, and inside the range of images."""
        image = x + project(image - x, self.ord, self.eps)
        if self.clip_min is None:
            return image
        return tf.clip_by_value(image, self.clip_min, self.clip_max)

    @staticmethod
    def _shapes(x):
        each = tf.TensorShape([None])
        images = ("image", "previous", "gradient", "best_image", "best_gradient", "adversarial")
        shapes = {name: x.shape if name in images else each for name in _State._fields}
        return _State(**dict(shapes, iteration=tf.TensorShape([])))


def _of_unfinished(assess, state, image, told):
    """`Assessment` of the images without a success; the others keep what they had.

    The network is nearly all of a step, so it sees only those without one. Their number is rounded
    up to a multiple of a part of all, because oneDNN compiles kernels for each size of a batch.
    """
    images = tf.shape(image)[0]
    rows = tf.where(~state.success)[:, 0]
    part = (images + PARTS - 1) // PARTS
    size = (tf.shape(rows)[0] + part - 1) // part * part
    rows = tf.gather(rows, tf.minimum(tf.range(size), tf.shape(rows)[0] - 1))
    now = assess(*[tf.gather(tensor, rows) for tensor in (image, *told)])
    before = Assessment(state.loss, state.gradient, state.success)
    places = rows[:, tf.newaxis]
    return Assessment(
        *[tf.tensor_scatter_update(old, places, new) for old, new in zip(before, now)]
    )


def _wide(values, x):
    """[n] as [n, 1, ...] of x's rank."""
    return tf.reshape(values, [-1] + [1] * (len(x.shape) - 1))
