"""The interface of everything that is attacked or evaluated."""

import abc
from typing import Any, List, Sequence, Tuple

import cleverhans.model

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
