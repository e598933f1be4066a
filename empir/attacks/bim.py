"""Basic iterative method: FGSM steps inside the ball. Kurakin et al. 2016, arXiv 1607.02533."""

import numpy as np

from empir.attacks.base import IterativeAttack


class BasicIterativeMethod(IterativeAttack):
    """BIM from the clean image; the last iterate is returned.

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
