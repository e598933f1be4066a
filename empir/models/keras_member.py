"""A user's own Keras classifier as a member: any model that `keras.Model.save` has written."""

from typing import Optional

import numpy as np

from empir.data import Dataset
from empir.errors import CheckpointError
from empir.models import checkpoints, keras_file
from empir.models.member import Member
from empir.models.model import Model
from empir.nn.layers import (
    CUSTOM_OBJECTS,
    fixed_statistics,
    layers_within,
    normalizations,
    quantize_once,
    quantizers_of,
    with_quantizers,
)
from empir.nn.precision import FULL, Precision
from empir.nn.quantizers import QUANTIZERS
from empir.runtime import keras

#: What a record gives as bits of a model with parts whose arithmetic is not known here.
UNKNOWN = "unknown"

#: Where the functions are from that are known not to quantize.
KNOWN_MODULES = ("keras.", "tensorflow.")


class KerasMember(Member):
    """A Keras classifier as a member of an ensemble.

    Args:
      model: a `keras.Model` from images to scores [n, classes]. If its last operation is a softmax,
        what that reads are the logits; otherwise the scores are.
      path, sha256: where it came from, and the file's digest; for records. Without a digest it is
        that of the weights in Keras' session.

    Attributes:
      quantized: layers that quantize by this package's quantizers, by name: their `Precision`s.
      unknown: names of the layers of which it is not known whether they quantize, as neither Keras
        nor this package defines what they compute.
      precisions: those of the quantized layers; of a model without any, full precision.
    """

    def __init__(self, model, path=None, sha256=None):
        self.quantized, self.unknown = {}, []
        for layer in layers_within(model):
            precision = _precision(layer)
            if precision is None:
                self.unknown.append(layer.name)
            elif not precision.is_full:
                self.quantized[layer.name] = precision
        if type(model) not in (keras.models.Model, keras.models.Sequential):
            self.unknown.append(model.name)
        super().__init__(model, tuple(self.quantized.values()) or (FULL,), path, sha256)
        self.layer_names = ["logits", "probs"]

    @property
    def is_full_precision(self) -> bool:
        """Whether it is known that no layer is quantized."""
        return not (self.quantized or self.unknown)

    def describe(self) -> dict:
        """Where it came from and its bits, per quantized layer where these differ, as plain data.

        The bits are "unknown" if those of a layer are.
        """
        description = dict(super().describe(), keras=True)
        description["sha256"] = self.sha256 or self._digest()
        if self.unknown:
            unknown = dict(weight_bits=UNKNOWN, activation_bits=UNKNOWN)
            return dict(description, unknown_layers=self.unknown, **unknown)
        if self.quantized:
            description["quantized_layers"] = list(self.quantized)
        return description

    def _digest(self):
        """sha256 of the weights in Keras' order, whose names differ from process to process."""
        arrays = self.model.get_weights()
        return checkpoints.digest({"%06d" % n: array for n, array in enumerate(arrays)})

    def get_logits(self, x):
        """Logits, float32 [n, classes], of float32 images [n, h, w, c]; as in prediction."""
        # Batch norm and dropout switch by tf.cond otherwise, which fails in loops.
        keras.backend.set_learning_phase(0)
        _forget(self.model)
        with fixed_statistics(self.model), with_quantizers(self.model, self.backward):
            scores = self.model.call(x)
        return scores.op.inputs[0] if scores.op.type == "Softmax" else scores

    def fprop(self, x):
        """Logits and their softmax, by name."""
        return Model.fprop(self, x)


def load_keras(
    path: str, data: Dataset, trust: bool = False, custom_objects: Optional[dict] = None
) -> KerasMember:
    """The member that a file of `keras.Model.save` holds, in the default graph and session.

    Args:
      path: HDF5 file.
      data: what it is to classify.
      trust: load it also if it has `Lambda` layers: these hold code, which loading them runs.
      custom_objects: name -> class of what is neither Keras' nor this package's.

    Raises:
      CheckpointError: if the file is missing or holds no such model, or one for other images, one
        with code or unknown classes, or one whose weights no network can compute with.
    """
    custom = dict(CUSTOM_OBJECTS, **(custom_objects or {}))
    file = keras_file.read(path)
    file.check(_known_classes() | set(custom), trust)
    try:
        keras.backend.set_learning_phase(0)
        model = keras.models.model_from_config(file.description, custom_objects=custom)
        if model.count_params() > file.values:  # before anything of that size is made
            counts = (file.values, model.count_params())
            raise ValueError("it holds %d weights, but its layers have %d" % counts)
        model.load_weights(path)
    except Exception as error:  # Keras raises all kinds on descriptions that it does not know
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(path + keras_file.NO_MODEL + reason)
    shapes = (tuple(model.input_shape[1:]), tuple(model.output_shape[1:]))
    wanted = (tuple(data.images.shape[1:]), (data.num_classes,))
    if not all(map(_fits, shapes, wanted)):
        needs = "%s is from %s to %s, but %s needs %s to %s"
        raise CheckpointError(needs % ((path,) + shapes + (data.name,) + wanted))
    _check_weights(path, model)
    quantize_once([model], keras.backend.get_session())
    return KerasMember(model, path, file.sha256)


def _known_classes():
    """Names that a description may hold: what Keras has, and what the program registered there."""
    known = {"Model", "Sequential", *QUANTIZERS, *keras.utils.get_custom_objects()}
    modules = (keras.layers, keras.initializers, keras.regularizers, keras.constraints)
    for module in modules:
        for name, item in vars(module).items():
            if isinstance(item, type) or getattr(item, "__module__", None) == module.__name__:
                known.add(name)
    return known


def _check_weights(path, model):
    """Raise `CheckpointError` for weights that are not finite, and variances below zero."""
    variables = model.weights
    variances = [layer.moving_variance for layer in normalizations(model)]
    for variable, array in zip(variables, keras.backend.batch_get_value(variables)):
        if not np.isfinite(array).all():
            raise CheckpointError("%s: %s holds NaN or infinity" % (path, variable.name))
        if any(variable is variance for variance in variances) and (array < 0).any():
            raise CheckpointError("%s: %s is negative, %g" % (path, variable.name, array.min()))


def _precision(layer):
    """A layer's `Precision`; None if what it computes is not known."""
    known = type(layer).__module__.startswith("keras.") or type(layer) in CUSTOM_OBJECTS.values()
    functions = [getattr(layer, name, None) for name in ("activation", "recurrent_activation")]
    for function in functions:
        module = getattr(function, "__module__", None) or ""
        known &= function is None or module.startswith(KNOWN_MODULES)
    quantizers = quantizers_of(layer)
    known &= all(q is None or type(q) in QUANTIZERS.values() for q in quantizers)
    if not known or isinstance(layer, keras.layers.Lambda):
        return None
    return Precision(*(quantizer and quantizer.bits for quantizer in quantizers))


def _fits(shape, wanted):
    """Whether a model's shape, None = any size, is the one wanted."""
    return len(shape) == len(wanted) and all(s in (None, w) for s, w in zip(shape, wanted))


def _forget(model):
    """Drop what Keras remembers of earlier calls by the addresses of tensors since freed."""
    for layer in [model, *layers_within(model)]:
        if isinstance(layer, keras.models.Model):
            layer._output_tensor_cache.clear()
