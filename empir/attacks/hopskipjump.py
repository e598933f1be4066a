"""An attack that sees decisions only: Foolbox 2's HopSkipJump. Chen et al. 2019, arXiv 1904.02144.

The decisions are the ensemble's own, under whichever rule, so it attacks the vote as well.
"""

import contextlib
import logging
import os
import warnings
from typing import Callable

import numpy as np

from empir.runtime import DEFAULT_SEED

#: Queries for an estimate of the boundary's direction: at first, and at most.
FIRST_QUERIES, MOST_QUERIES = 100, 1000


class HopSkipJump:
    """HopSkipJump on whatever decides.

    Parameters: eps, radius, where an image inside the ball ends the search; ord, inf or 2;
    iterations, estimates of the boundary's direction; seed; clip_min, clip_max.

    Args:
      decide: `decide(images)` -> classes, int64 [n], of float32 images [n, h, w, c].
      num_classes: number of classes.
      **parameters: those above.
    """

    decision_only = True
    defaults = dict(
        eps=0.3, ord=np.inf, iterations=10, seed=DEFAULT_SEED, clip_min=0.0, clip_max=1.0
    )

    def __init__(self, decide: Callable, num_classes: int, **parameters):
        given = dict(self.defaults, **parameters)
        self._clip_range = given["clip_min"], given["clip_max"]
        self._iterations, self._seed = given["iterations"], given["seed"]
        self._radius = given["eps"] / (given["clip_max"] - given["clip_min"])
        self._order = given["ord"]
        eye = np.eye(num_classes, dtype=np.float32)
        self._model = _model(lambda images: eye[decide(images)], self._clip_range, num_classes)

    def search(self, images, labels, starts, index) -> np.ndarray:
        """The closest misclassified images that were found, float32 [n, h, w, c].

        Args:
          images: float32 [n, h, w, c].
          labels: true classes, int [n].
          starts: misclassified images of the same shape. For a start that is not misclassified the
            image itself is returned.
          index: int [n]; the random directions of example i are a function of (seed, index[i]).
        """
        return np.stack(
            [
                self._search_one(image, int(label), start, [self._seed, int(number)])
                for image, label, start, number in zip(images, labels, starts, index)
            ]
        )

    def _search_one(self, image, label, start, seed):
        from foolbox import attacks, criteria, distances

        linf = self._order == np.inf
        attack = attacks.HopSkipJumpAttack(
            self._model,
            criteria.Misclassification(),
            distances.Linf if linf else distances.MSE,
            # In Foolbox's units: the square's mean, as shares of the range.
            self._radius if linf else self._radius**2 / image.size,
        )
        with _numpy_seed(seed), _quiet():
            try:
                (found,) = attack(
                    image[np.newaxis],
                    np.array([label]),
                    iterations=self._iterations,
                    initial_num_evals=FIRST_QUERIES,
                    max_num_evals=MOST_QUERIES,
                    starting_point=start,
                )
            except AssertionError as error:
                if "starting point" not in str(error):
                    raise
                found = image  # a network that draws at random classifies the start correctly now
        return np.clip(found, *self._clip_range).astype(np.float32)


def _model(forward, clip_range, num_classes):
    """A Foolbox model whose scores are `forward`'s."""
    os.environ.setdefault(
        "GIT_PYTHON_REFRESH", "quiet"
    )  # Foolbox's zoo, which needs git, is unused
    from foolbox.models import Model

    class Deciding(Model):
        """A model without gradients."""

        def forward(self, inputs):
            """Scores [n, classes] of images."""
            return forward(np.asarray(inputs, np.float32))

        def num_classes(self):
            """Number of classes."""
            return num_classes

    return Deciding(bounds=clip_range, channel_axis=-1)


@contextlib.contextmanager
def _quiet():
    """Foolbox without its warnings, and without its progress, which it logs as everybody's."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _numpy_seed(seed):
    """NumPy's own generator, which Foolbox draws from, seeded; afterwards as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
