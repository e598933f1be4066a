"""Square attack, L-infinity: random search by squares. Andriushchenko et al. 2019, 1912.00049.

It follows no gradient, so what hides gradients does not stop it. A candidate is the best image so
far with a square of pixels moved to the surface of the ball, by another sign for each channel; it
is kept if the margin by which a wrong class leads rises.
"""

from typing import List, NamedTuple

from empir.attacks.base import Attack, ModelWithLoss, in_shares
from empir.attacks.losses import margin
from empir.errors import EmpirError
from empir.runtime import DEFAULT_SEED, tf

#: As shares of all queries: when the area of squares is halved.
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


class _State(NamedTuple):
    """State of the loop, a tuple because TensorFlow's loops carry tuples."""

    iteration: tf.Tensor
    image: tf.Tensor
    lead: tf.Tensor
    success: tf.Tensor


def sides(nb_iter: int, p_init: float, height: int, width: int) -> List[int]:
    """Side of the square in pixels, at each of `nb_iter` queries."""
    largest = min(height, width)
    areas = [
        p_init / 2 ** sum(query > share * nb_iter for share in HALVINGS) * height * width
        for query in range(nb_iter)
    ]
    return [min(max(int(round(area**0.5)), 1), largest) for area in areas]


class SquareAttack(Attack):
    """Square attack from vertical stripes of random signs; `nb_iter` queries.

    The result is the first adversarial image that is met, else the one of the largest lead. An
    example's result does not depend on those it is batched with.

    Parameters: eps, radius; nb_iter, queries; p_init, share of the pixels in the first square;
    seed, index: draws of example i are a function of (seed, index[i]); y, integers or one-hot;
    clip_min, clip_max.
    """

    defaults = dict(
        eps=0.3,
        nb_iter=1000,
        p_init=0.8,
        seed=DEFAULT_SEED,
        index=None,
        y=None,
        y_target=None,
        clip_min=0.0,
        clip_max=1.0,
    )
    gradient_free = True
    feedable = Attack.feedable + ("eps", "index")

    def parse_params(self, **kwargs):
        """See `Attack.parse_params`; it is untargeted, and needs a range of images."""
        super().parse_params(**kwargs)
        if self.y_target is not None:
            raise EmpirError("y_target: the square attack is untargeted here; give y")
        if self.clip_min is None:
            raise EmpirError("clip_min=None: the square attack needs the range of images")
        self._check_positive("eps", zero=True)
        self._check_positive("p_init")
        self._check_counts("nb_iter")
        if self.p_init > 1:
            raise EmpirError("p_init=%r must be at most 1" % self.p_init)
        self._check_seed(31)
        return True

    def generate(self, x, **kwargs):
        """Adversarial examples for float32 images x [n, h, w, c], as a tensor of x's shape."""
        self.parse_params(**kwargs)
        labels, _ = self._labels(x)
        index = tf.range(tf.shape(x, out_type=tf.int64)[0]) if self.index is None else self.index
        given = x, labels, tf.convert_to_tensor(index)
        return tf.stop_gradient(in_shares(self._search, *given, shares=self.shares))

    def _search(self, x, labels, index):
        height, width, channels = x.shape[1:].as_list()
        table = tf.constant(sides(self.nb_iter, self.p_init, height, width))
        stripes = self._signs(index, -1, width * channels)
        first = self._inside(x, x + self.eps * tf.reshape(stripes, [-1, 1, width, channels]))
        lead, success = self._score(first, labels)

        def query(state):
            side = table[state.iteration]
            square = self._square(index, state.iteration, side, (height, width, channels))
            candidate = self._inside(x, state.image + 2 * self.eps * square)
            lead, success = self._score(candidate, labels)
            better = ~state.success & ((lead > state.lead) | success)
            return _State(
                state.iteration + 1,
                tf.where(better, candidate, state.image),
                tf.where(better, lead, state.lead),
                state.success | success,
            )

        each = tf.TensorShape([None])
        (state,) = tf.while_loop(
            lambda state: (state.iteration < self.nb_iter) & ~tf.reduce_all(state.success),
            lambda state: (query(state),),
            (_State(tf.constant(0), first, lead, success),),
            shape_invariants=(_State(tf.TensorShape([]), x.shape, each, each),),
            parallel_iterations=1,
            back_prop=False,
        )
        return state.image

    def _score(self, image, labels):
        """Lead of a wrong class, float32 [n], and whether the image is adversarial, bool [n]."""
        if isinstance(self.model, ModelWithLoss):
            return self.model.score(image, labels)
        logits = self._logits_for(image, labels)
        wrong = tf.not_equal(tf.argmax(logits, axis=1), tf.argmax(labels, axis=1))
        return margin(logits, labels), wrong

    def _uniform(self, index, query, count):
        """Numbers in [0, 1), [n, count]: row i is a function of seed, index[i] and query."""
        rows = tf.cast(tf.reduce_max(index), tf.int32) + 1
        key = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(query, tf.int64)])
        return tf.gather(tf.random.stateless_uniform([rows, count], seed=key), index)

    def _signs(self, index, query, count):
        return tf.sign(self._uniform(index, query, count) - 0.5)

    def _square(self, index, query, side, shape):
        """Signs inside a random square, 0 outside; [n, h, w, c]."""
        height, width, channels = shape
        drawn = self._uniform(index, query, 2 + channels)

        def inside(position, size):
            start = tf.floor(position * tf.cast(size - side + 1, tf.float32))
            distance = tf.range(size, dtype=tf.float32)[tf.newaxis] - start[:, tf.newaxis]
            return tf.cast((distance >= 0) & (distance < tf.cast(side, tf.float32)), tf.float32)

        rows = inside(drawn[:, 0], height)[:, :, tf.newaxis, tf.newaxis]
        columns = inside(drawn[:, 1], width)[:, tf.newaxis, :, tf.newaxis]
        signs = tf.sign(drawn[:, 2:] - 0.5)[:, tf.newaxis, tf.newaxis, :]
        return rows * columns * signs

    def _inside(self, x, image):
        image = x + tf.clip_by_value(image - x, -self.eps, self.eps)
        return tf.clip_by_value(image, self.clip_min, self.clip_max)
