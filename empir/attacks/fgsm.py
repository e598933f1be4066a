"""Fast gradient (sign) method: one step of size eps. Goodfellow et al. 2015, arXiv 1412.6572."""

import numpy as np

from empir.attacks.base import GradientAttack


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
