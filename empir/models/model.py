"""The interface of everything that is attacked or evaluated, and its predictions as arrays."""

import abc
from dataclasses import dataclass
from typing import Any, List, Sequence, Tuple

import cleverhans.model
import numpy as np

from empir.errors import EmpirError
from empir.runtime import tf


class Model(cleverhans.model.Model, metaclass=abc.ABCMeta):
    """A classifier of images, as a CleverHans model; a subclass defines `get_logits`.

    Networks, ensembles and the views that attacks differentiate are models. A single network is its
    own member. What other members say, as `draws`, holds for the model that they make up.

    Attributes:
      precisions: `Precision`s of the layers that can be quantized.
      engine: the `empir.fast.engine.Engine` that computes the logits, if there is one.
      nb_filters: width of the network, if it is known.
      usual_width: whether that is the network's default width, which records do not mention.
    """

    precisions: Sequence = ()
    engine: Any = None
    nb_filters = None
    usual_width = True

    def __init__(self):
        super().__init__()
        self.layer_names = ["logits", "probs"]

    @property
    def input_shape(self) -> Tuple:
        """[height, width, channels] of an image; None = any."""
        return (None, None, None)

    @property
    def members(self) -> List["Model"]:
        """The networks that decide together."""
        return [self]

    @property
    def _parts(self):
        return [member for member in self.members if member is not self]

    @property
    def is_full_precision(self) -> bool:
        """Whether it is known that no layer is quantized."""
        return all(part.is_full_precision for part in self._parts)

    @property
    def draws(self) -> bool:
        """Whether it draws at random, so that the same image can give other logits."""
        return any(part.draws for part in self._parts)

    @abc.abstractmethod
    def get_logits(self, x):
        """Logits, float32 [n, classes], of images, float32 [n, height, width, channels]."""

    def member_logits(self, x) -> List:
        """Logits of every member, each float32 [n, classes]."""
        return [member.get_logits(x) for member in self.members]

    def decision(self, x):
        """Predicted class of each image, int64 [n]."""
        return tf.argmax(self.get_logits(x), axis=1)

    def fprop(self, x):
        """Logits and their softmax, by name."""
        logits = self.get_logits(x)
        return {"logits": logits, "probs": tf.nn.softmax(logits)}

    def with_backward(self, name: str) -> "Model":
        """The same model, the weights included, with another gradient of its quantizers.

        Args:
          name: a backward pass of `quantizers.DoReFaActivations`.

        Raises:
          EmpirError: if there is none of that name.
        """
        return self

    def describe(self) -> dict:
        """Where it came from and what it is, as plain data for records."""
        return {"path": None, "sha256": None, "weight_bits": None, "activation_bits": None}

    def get_params(self):
        """The variables that hold the weights."""
        return [variable for part in self._parts for variable in part.get_params()]


def describe_members(members: Sequence[Model], options: dict, outside: Sequence[Model] = ()):
    """What records say of members and of how they were built, as plain data.

    Args:
      members: of an ensemble.
      options: how all were built, if not by default.
      outside: networks that are no members.

    Returns:
      A dict of options, members and outside. A width that all members share and that is not the
      usual one is an option, `nb_filters`; if members have different widths, each has its own in
      its entry, and so has a network outside of another width than the members'.
    """
    widths = {member.nb_filters for member in members}
    options, shared = dict(options), None
    if len(widths) > 1:
        options.pop("nb_filters", None)
    else:
        shared = widths.pop()
        if not all(member.usual_width for member in members):
            options["nb_filters"] = shared

    def describe(network):
        own = network.nb_filters
        text = network.describe()
        return text if own in (None, shared) else dict(text, nb_filters=own)

    described = [[describe(network) for network in group] for group in (members, outside)]
    return {"options": options, "members": described[0], "outside": described[1]}


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
        self.session, self._runtime = session, ensemble.runtime
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
        chunks = [self._predicted(images[start : start + batch_size]) for start in starts]
        return Predictions(
            **{name: np.concatenate([chunk[name] for chunk in chunks]) for name in self._fetches}
        )

    def _predicted(self, images):
        if self._runtime is not None:
            return self._runtime.predictions(images)
        return self.session.run(self._fetches, {self._images: images})
