"""An attack that sees decisions only: Foolbox 2's HopSkipJump. Chen et al. 2019, arXiv 1904.02144.

The decisions are the ensemble's own, under whichever rule, so it attacks the vote as well.
"""

import contextlib
import logging
import os
import warnings
from typing import Callable

import numpy as np

#: Queries for an estimate of the boundary's direction: at first, and at most.
FIRST_QUERIES, MOST_QUERIES = 100, 1000


class HopSkipJump:
    """HopSkipJump on whatever decides.

    Args:
      decide: `decide(images)` -> classes, int [n], of float32 images [n, h, w, c].
      num_classes: number of classes.
      clip_range: lowest and highest value of an image.
      eps, order: radius and norm, inf or 2; an image inside the ball ends the search.
      iterations: estimates of the boundary's direction.
    """

    def __init__(
        self,
        decide: Callable,
        num_classes: int,
        clip_range,
        eps: float,
        order: float,
        iterations: int,
    ):
        self._clip_range = clip_range
        self._iterations = iterations
        self._radius = eps / (clip_range[1] - clip_range[0])
        self._order = order
        eye = np.eye(num_classes, dtype=np.float32)
        self._model = _model(lambda images: eye[decide(images)], clip_range, num_classes)

    def __call__(self, image, label: int, start, seed) -> np.ndarray:
        """The closest misclassified image that was found; float32 [h, w, c].

        Args:
          image: float32 [h, w, c].
          label: true class.
          start: a misclassified image of the same shape; if it is not, the image is returned.
          seed: of the random directions, as `numpy.random.RandomState` takes it.
        """
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
