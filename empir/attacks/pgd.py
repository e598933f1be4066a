"""Projected gradient descent from a random start. Madry et al. 2017, arXiv 1706.06083."""

import numpy as np

from empir.attacks.base import IterativeAttack
from empir.attacks.perturbations import noise, project
from empir.runtime import DEFAULT_SEED, tf


class ProjectedGradientDescent(IterativeAttack):
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
    feedable = IterativeAttack.feedable + ("index", "start")

    def parse_params(self, **kwargs):
        """See `IterativeAttack.parse_params`; the seed is 0..2^63 - 1."""
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
