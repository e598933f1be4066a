"""Random noise of a given size: the attack that every other one must beat."""

import numpy as np

from empir.attacks.base import Attack
from empir.attacks.perturbations import noise, project
from empir.errors import EmpirError
from empir.runtime import DEFAULT_SEED, tf

FAR = 1e6  # factor that puts a normal perturbation outside any ball, so that it is projected


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
