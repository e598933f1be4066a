"""Carlini and Wagner's L2 attack, in the graph. Carlini and Wagner 2017, arXiv 1608.04644.

Per example, minimise |x' - x|^2 + c * max(0, margin) over w with x' = tanh(w) scaled to
[clip_min, clip_max], by Adam; repeat for `binary_search_steps` values of c. The result is the
closest misclassified x' that was met, or the clean image if none was.
"""

from typing import NamedTuple

from empir.attacks.base import Attack, as_function, in_shares
from empir.errors import EmpirError
from empir.runtime import tf

BETA1, BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8
NEVER = 1e10  # distance of an example that has not been misclassified yet
UNBOUNDED = 1e9  # upper bounds of c above this have not been found yet

# The states are tuples, which the loops of TensorFlow carry; dataclasses they would not.


class _Best(NamedTuple):
    """Best adversarial example so far."""

    l2: tf.Tensor  # [n] squared distance
    image: tf.Tensor  # [n, ...]


class _Search(NamedTuple):
    """State of the binary search for c, float64 [n] each."""

    const: tf.Tensor
    lower: tf.Tensor
    upper: tf.Tensor


class _Descent(NamedTuple):
    """State of the descent at one value of c."""

    iteration: tf.Tensor
    aborted: tf.Tensor
    previous_loss: tf.Tensor
    found: tf.Tensor  # [n] whether this c gave an adversarial example
    w: tf.Tensor
    m: tf.Tensor
    v: tf.Tensor
    beta1_power: tf.Tensor
    beta2_power: tf.Tensor


class CarliniWagnerL2(Attack):
    """CW-L2 with CleverHans' parameters, for batches of any size.

    Parameters: y or y_target, integers or one-hot; batch_size; confidence, the margin demanded;
    learning_rate; binary_search_steps; max_iterations; abort_early; initial_const; clip_min,
    clip_max.

    `abort_early` is decided per batch of `batch_size` consecutive examples, as in CleverHans: ten
    times per descent, the batch stops if its total loss has not fallen by 0.01 %. So the batch
    size can change a result while `abort_early` is set, and only then; a last partial batch is a
    batch of its own.

    Faithfulness: equal to CleverHans 2.1.0's, which runs each step in a session call of its own
    and compares in Python; the original fails on a last partial batch (docs/original.md, Defects
    25). On an ensemble it follows the target that it is given; the original's followed, and tested
    success on, the full-precision member (docs/original.md, Defects 12).
    """

    defaults = dict(
        y=None,
        y_target=None,
        batch_size=1,
        confidence=0,
        learning_rate=5e-3,
        binary_search_steps=5,
        max_iterations=1000,
        abort_early=True,
        initial_const=1e-2,
        clip_min=0.0,
        clip_max=1.0,
    )
    feedable = ("y", "y_target")

    def parse_params(self, **kwargs):
        """See `Attack.parse_params`; counts, rate and constant must be positive."""
        super().parse_params(**kwargs)
        self._check_counts("batch_size", "binary_search_steps", "max_iterations")
        self._check_positive("learning_rate", "initial_const")
        self._check_positive("confidence", zero=True)
        if self.clip_min is None or not self.clip_min < self.clip_max:
            raise EmpirError(
                "clip_min=%r, clip_max=%r: CW needs a range" % (self.clip_min, self.clip_max)
            )
        return True

    def generate(self, x, **kwargs):
        """Adversarial examples for float32 images x [n, ...] in [clip_min, clip_max]; x's shape."""
        self.parse_params(**kwargs)
        labels, targeted = self._labels(x)
        count = tf.shape(x)[0]

        def attack(start, results):
            part = slice(start, tf.minimum(start + self.batch_size, count))
            best = self._attack_batch(x[part], labels[part], targeted)
            return start + self.batch_size, results.write(start // self.batch_size, best)

        batches = (count + self.batch_size - 1) // self.batch_size
        results = tf.TensorArray(self.tf_dtype, batches, infer_shape=False)
        _, results = tf.while_loop(
            lambda start, _: start < count,
            attack,
            (tf.constant(0), results),
            parallel_iterations=1,
            back_prop=False,
        )
        return tf.reshape(results.concat(), tf.shape(x), name="adversarial")

    def _attack_batch(self, x, labels, targeted):
        low, span = self.clip_min, self.clip_max - self.clip_min
        clipped = tf.clip_by_value(x, self.clip_min, self.clip_max)
        w0 = tf.atanh((tf.clip_by_value((x - low) / span, 0.0, 1.0) * 2 - 1) * 0.999999)
        original = self._image(w0)
        zeros = tf.zeros(tf.shape(x)[:1], tf.float64)
        search = _Search(zeros + self.initial_const, zeros, zeros + NEVER)
        best = _Best(tf.cast(zeros, self.tf_dtype) + NEVER, clipped)

        def outer(step, search, best):
            if self.binary_search_steps >= 10:  # the last of many steps repeats the best constant
                last = tf.equal(step, self.binary_search_steps - 1)
                search = search._replace(const=tf.where(last, search.upper, search.const))
            found, best = self._descend(w0, original, labels, targeted, search.const, best)
            return step + 1, _bisect(search, found), best

        _, _, best = tf.while_loop(
            lambda step, *_: step < self.binary_search_steps,
            outer,
            (tf.constant(0), search, best),
            shape_invariants=_shapes((tf.constant(0), search, best)),
            parallel_iterations=1,
            back_prop=False,
        )
        # TensorFlow's tanh exceeds 1 by a rounding error.
        return tf.clip_by_value(best.image, self.clip_min, self.clip_max)

    def _image(self, w):
        return (tf.tanh(w) + 1) / 2 * (self.clip_max - self.clip_min) + self.clip_min

    def _descend(self, w0, original, labels, targeted, const, best):
        """Adam from the clean image at given constants; returns who was fooled, and the best."""
        weight = tf.cast(const, self.tf_dtype)
        check_every = max(self.max_iterations // 10, 1)

        def objective(w, original, labels, const):
            image = self._image(w)
            logits = self._logits_for(image, labels)
            l2 = tf.reduce_sum(tf.square(image - original), list(range(1, len(image.shape))))
            pull = const * self._margin(logits, labels, targeted)
            loss = tf.reduce_sum(l2) + tf.reduce_sum(pull)
            return image, logits, l2, pull, tf.gradients(loss, w)[0]

        objective = as_function(objective, w0, original, labels, weight)

        def step(state, best):
            image, logits, l2, pull, gradient = in_shares(
                objective, state.w + w0, original, labels, weight, shares=self.shares
            )
            aborted, previous = state.aborted, state.previous_loss
            if self.abort_early:
                check = tf.equal(state.iteration % check_every, 0)
                total = tf.cast(tf.reduce_sum(l2) + tf.reduce_sum(pull), tf.float64)
                aborted = tf.logical_and(check, total > previous * 0.9999)
                previous = tf.where(check, total, previous)
            fooled = tf.logical_and(self._is_fooled(logits, labels, targeted), ~aborted)
            better = tf.logical_and(fooled, l2 < best.l2)
            best = _Best(tf.where(better, l2, best.l2), tf.where(better, image, best.image))
            state = state._replace(
                aborted=aborted,
                previous_loss=previous,
                found=tf.logical_or(state.found, fooled),
            )
            return self._adam(state, gradient), best

        state = _Descent(
            iteration=tf.constant(0),
            aborted=tf.constant(False),
            previous_loss=tf.constant(1e6, tf.float64),
            found=tf.zeros_like(const, tf.bool),
            w=tf.zeros_like(w0),
            m=tf.zeros_like(w0),
            v=tf.zeros_like(w0),
            beta1_power=tf.constant(BETA1),
            beta2_power=tf.constant(BETA2),
        )
        state, best = tf.while_loop(
            lambda state, _: tf.logical_and(state.iteration < self.max_iterations, ~state.aborted),
            step,
            (state, best),
            shape_invariants=_shapes((state, best)),
            parallel_iterations=1,
            back_prop=False,
        )
        return state.found, best

    def _margin(self, logits, labels, targeted):
        """How far each example is from being adversarial by `confidence`; 0 where it is. [n]"""
        real = tf.reduce_sum(labels * logits, axis=1)
        other = tf.reduce_max((1 - labels) * logits - labels * 10000, axis=1)
        gap = other - real if targeted else real - other
        return tf.maximum(0.0, gap + self.confidence)

    def _is_fooled(self, logits, labels, targeted):
        shift = -self.confidence if targeted else self.confidence
        wanted = tf.argmax(labels, axis=1)
        one_hot = tf.one_hot(wanted, labels.shape[-1].value, dtype=logits.dtype)
        decided = tf.argmax(logits + shift * one_hot, axis=1)
        return tf.equal(decided, wanted) if targeted else tf.not_equal(decided, wanted)

    def _adam(self, state, gradient):
        """One step of `tf.train.AdamOptimizer`'s update, in its order of operations."""
        rate = self.learning_rate * tf.sqrt(1 - state.beta2_power) / (1 - state.beta1_power)
        m = state.m + (gradient - state.m) * (1 - BETA1)
        v = state.v + (tf.square(gradient) - state.v) * (1 - BETA2)
        return state._replace(
            iteration=state.iteration + 1,
            w=state.w - m * rate / (tf.sqrt(v) + ADAM_EPSILON),
            m=m,
            v=v,
            beta1_power=state.beta1_power * BETA1,
            beta2_power=state.beta2_power * BETA2,
        )


def _bisect(search, found):
    """Halve the interval of c where it is bounded, else multiply c by ten."""
    upper = tf.where(found, tf.minimum(search.upper, search.const), search.upper)
    lower = tf.where(found, search.lower, tf.maximum(search.lower, search.const))
    const = tf.where(
        upper < UNBOUNDED, (lower + upper) / 2, tf.where(found, search.const, search.const * 10)
    )
    return _Search(const, lower, upper)


def _shapes(structure):
    """Shape invariants of loop variables: their ranks and static sizes, with the batch unknown."""

    def relax(tensor):
        if not len(tensor.shape):
            return tensor.shape
        return tf.TensorShape([None]).concatenate(tensor.shape[1:])

    return tf.nest.map_structure(relax, structure)
