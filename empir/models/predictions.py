"""What an ensemble makes of images, as arrays."""

from dataclasses import dataclass

import numpy as np

from empir.errors import EmpirError
from empir.runtime import tf


@dataclass(frozen=True)
class Predictions:
    """Outputs of an ensemble for n images.

    Attributes:
      decision: the class under the ensemble's decision rule, int64 [n].
      members: the class that each member gives, int64 [n, members].
      probabilities: softmax of what the rule takes its argmax of, float32 [n, classes]; of a vote,
        which has no such logits, the softmax of the mean logits.
      logits: of each member, float32 [n, members, classes].
    """

    decision: np.ndarray
    members: np.ndarray
    probabilities: np.ndarray
    logits: np.ndarray


class Predictor:
    """The operations by which an ensemble predicts, in the graph of a session.

    Args:
      ensemble: an `ensemble.Ensemble` whose weights the session holds.
      session: a `tf.Session`.
    """

    def __init__(self, ensemble, session):
        self.session = session
        with session.graph.as_default():
            shape = (None,) + ensemble.members[0].input_shape
            self._images = tf.placeholder(tf.float32, shape, "predicted_images")
            logits = ensemble.member_logits(self._images)
            each = tf.stack(logits, axis=1)
            self._fetches = {
                "decision": ensemble.decisions(logits)[ensemble.combine],
                "members": tf.argmax(each, axis=2),
                "probabilities": tf.nn.softmax(ensemble.combined(logits)),
                "logits": each,
            }

    def __call__(self, images, batch_size: int) -> Predictions:
        """Predictions for images, float32 [n, height, width, channels].

        Raises:
          EmpirError: for images of another shape, or integers.
        """
        images = np.asarray(images)
        if not self._images.shape.is_compatible_with(images.shape):
            taken = self._images.shape.as_list()
            raise EmpirError(f"images of shape {list(images.shape)}: the network takes {taken}")
        if images.dtype.kind != "f":
            raise EmpirError(
                f"images of type {images.dtype}: give them as floats in the range of the dataset, "
                "such as images / 255"
            )
        starts = range(0, max(len(images), 1), batch_size)
        chunks = [
            self.session.run(self._fetches, {self._images: images[start : start + batch_size]})
            for start in starts
        ]
        return Predictions(
            **{name: np.concatenate([chunk[name] for chunk in chunks]) for name in self._fetches}
        )
