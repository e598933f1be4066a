"""A user's own Keras classifier as a member: any model that `keras.Model.save` has written."""

import contextlib
import functools
import hashlib

from cleverhans.model import Model

from empir import checkpoints
from empir.backend import keras, tf
from empir.data import Dataset
from empir.errors import CheckpointError
from empir.layers import CUSTOM_OBJECTS
from empir.precision import FULL


class KerasMember(Model):
    """A Keras classifier as a member of an ensemble.

    Args:
      model: a `keras.Model` from images to scores [n, classes]. If its last operation is a softmax,
        what that reads are the logits; otherwise the scores are.
      path, sha256: where it came from, and the file's digest; for records. Without a digest it is
        that of the weights in Keras' session.
    """

    precisions = (FULL,)
    is_full_precision = True
    draws = False
    engine = None

    def __init__(self, model, path=None, sha256=None):
        super().__init__()
        self.model = model
        self.path = path
        self.sha256 = sha256
        self.layer_names = ["logits", "probs"]

    def describe(self) -> dict:
        """Where it came from, as plain data."""
        origin = dict(path=self.path, sha256=self.sha256 or self._digest(), keras=True)
        return dict(origin, weight_bits=None, activation_bits=None)

    def _digest(self):
        """sha256 of the weights in Keras' order, whose names differ from process to process."""
        arrays = self.model.get_weights()
        return checkpoints.digest({"%06d" % n: array for n, array in enumerate(arrays)})

    def get_logits(self, x):
        """Logits, float32 [n, classes], of float32 images [n, h, w, c]; as in prediction."""
        # Batch norm and dropout switch by tf.cond otherwise, which fails in loops (FACTS 4).
        keras.backend.set_learning_phase(0)
        _forget(self.model)
        with _still(self.model):
            scores = self.model.call(x)
        return scores.op.inputs[0] if scores.op.type == "Softmax" else scores

    def fprop(self, x):
        """Logits and their softmax."""
        logits = self.get_logits(x)
        return {"logits": logits, "probs": tf.nn.softmax(logits)}

    def decision(self, x):
        """Predicted class of each image, int64 [n]."""
        return tf.argmax(self.get_logits(x), axis=1)

    def get_params(self):
        """The model's weights."""
        return self.model.weights


def load_keras(path: str, data: Dataset) -> KerasMember:
    """The member that a file of `keras.Model.save` holds, in the default graph and session.

    Args:
      path: HDF5 file. Models with `Lambda` layers hold code, which loading runs.
      data: what it is to classify.

    Raises:
      CheckpointError: if the file is missing or holds no such model, or one for other images.
    """
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.sha256(file.read()).hexdigest()
        keras.backend.set_learning_phase(0)
        model = keras.models.load_model(path, custom_objects=CUSTOM_OBJECTS, compile=False)
    except Exception as error:  # HDF5, JSON and Keras raise all kinds on files of other kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        if "Cannot create group" in reason:  # Keras looks for a configuration, and would add one
            reason = "it holds weights alone"
        raise CheckpointError("%s is no model that keras.Model.save wrote: %s" % (path, reason))
    shapes = (tuple(model.input_shape[1:]), tuple(model.output_shape[1:]))
    wanted = (tuple(data.images.shape[1:]), (data.num_classes,))
    if not all(map(_fits, shapes, wanted)):
        needs = "%s is from %s to %s, but %s needs %s to %s"
        raise CheckpointError(needs % ((path,) + shapes + (data.name,) + wanted))
    return KerasMember(model, path, sha256)


def _fits(shape, wanted):
    """Whether a model's shape, None = any size, is the one wanted."""
    return len(shape) == len(wanted) and all(s in (None, w) for s, w in zip(shape, wanted))


def _forget(model):
    """Drop what Keras remembers of earlier calls by the addresses of tensors since freed."""
    model._output_tensor_cache.clear()
    for layer in model.layers:
        if isinstance(layer, keras.models.Model):
            _forget(layer)


@contextlib.contextmanager
def _still(model):
    """Call a model without the operations by which batch normalisation updates its statistics.

    Keras adds them whatever the learning phase; an attack's function cannot hold them.
    """
    layers = _normalizations(model)
    for layer in layers:
        layer.call = functools.partial(layer.call, training=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


def _normalizations(model):
    """The layers of batch normalisation in a model, in models within it and in wrappers."""
    found = set()
    for layer in model.layers:
        layer = getattr(layer, "layer", layer)
        if isinstance(layer, keras.models.Model):
            found |= _normalizations(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            found.add(layer)
    return found
