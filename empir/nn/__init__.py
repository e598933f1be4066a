"""The networks of the paper, one file each, and the table of those that can be named.

A program adds a network of its own by `register`: then it trains, is saved, loaded and attacked as
the paper's networks are.
"""

import functools
import numbers
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional, Tuple

from empir.errors import EmpirError
from empir.nn.precision import FULL

#: Largest width of a network that is computed with, and of one whose cost is counted only. The
#: paper's are 32 and 64 wide.
MOST_FILTERS, MOST_COUNTED = 4096, 10**6

#: Networks that have a quantized layer, and those that have none: the prefixes of the names in a
#: checkpoint.
FAMILIES = ("fp", "lp")


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network as data: what the rest of the package needs to know of it.

    Attributes:
      name: the paper's name, e.g. "MNISTconv".
      layers: `layers(build, x, nb_filters)` returns the logits of images, which are the output of a
        layer of the name "logits". `build` is a `builder.Builder`, which makes layers, x the Keras
        tensor of the images and nb_filters the width. The tensors may branch and meet again.
      input_shape: [height, width, channels].
      num_classes: number of classes.
      quantized_layers: names of the layers that a low-precision network quantizes, in order.
      nb_filters: default width.
      released_names: per family that there is, our weight name ("conv1/kernel") -> the variable's
        name in a checkpoint of the authors (docs/original.md, Checkpoint variables); the first
        convolution's kernel comes first. None = the authors have no such network; the name is then
        ours behind the family, "lp_conv1/kernel".
      first_filters: filters of the first convolution per unit of `nb_filters`, by which the width
        of a checkpoint is read from its shapes.
      draws: whether a layer draws at random in every pass, as `Builder.random_conv` and layers of
        other classes do. Attacks then average over passes, and the result of a pass depends on
        those before it. Stochastic rounding, which any network may have, needs no mention.
    """

    name: str
    layers: Callable
    input_shape: Tuple[int, int, int]
    num_classes: int
    quantized_layers: Tuple[str, ...]
    nb_filters: int
    released_names: Optional[Dict[str, Dict[str, str]]] = None
    first_filters: int = 1
    draws: bool = False

    def build(self, precision=FULL, nb_filters=None, temperature: float = 1.0, **options):
        """Build the network in the current graph.

        Args:
          precision: a `Precision` for all quantized layers, or one for each of them.
          nb_filters: filters of the first convolution, which set those of the others; None = the
            architecture's default.
          temperature: factor on the logits inside the softmax.
          **options: see `builder.Builder`: stochastic_rounding, trainable, seed.

        Returns:
          A `keras.Model` from float32 images [batch, *input_shape] to probabilities
          [batch, num_classes]; its layer "logits" gives the logits.

        Raises:
          EmpirError: for bits outside 1..32, a number of precisions that is neither one nor the
            number of quantized layers, a width that is no number of filters, or a network that
            does not end as it should, has layers that cannot be told by name, or draws at random
            without saying so.
        """
        from empir.nn.builder import Builder
        from empir.nn.layers import Softmax
        from empir.runtime import keras

        width = self.nb_filters if nb_filters is None else check_filters(nb_filters, MOST_COUNTED)
        builder = Builder(self.name, self.quantized_layers, precision, **options)
        images = keras.layers.Input(self.input_shape)
        logits = self.layers(builder, images, width)
        probs = Softmax(temperature, name="probs")(logits)
        model = keras.models.Model(images, probs, name=self.name)
        builder.check()
        self._check(model, keras.backend.int_shape(logits))
        if builder.draws and not self.draws:
            raise EmpirError(f"{self.name} draws kernels at random: register it with draws=True")
        model.draws = self.draws
        return model

    def _check(self, model, shape):
        last = model.layers[-2]
        if last.name != "logits" or shape != (None, self.num_classes):
            raise EmpirError(
                f"{self.name} must end with a layer logits of {self.num_classes} values, but it "
                f"ends with {last.name} of shape {shape}"
            )
        for layer in model.layers:
            # Keras names a layer by its class and a number, which grows from network to network.
            unnamed = layer.name.rpartition("_")[0].replace("_", "") == type(layer).__name__.lower()
            if layer.weights and unnamed:
                raise EmpirError(
                    f"{self.name}: give its {type(layer).__name__} a name, by which checkpoints "
                    "tell its weights"
                )

    @property
    def families(self) -> Tuple[str, ...]:
        """Those of `FAMILIES` that the network has checkpoints of."""
        return FAMILIES if self.released_names is None else tuple(self.released_names)

    def names(self, kind: str) -> Dict[str, str]:
        """Our weight name ("conv1/kernel") -> its name in a checkpoint of that family."""
        if self.released_names is not None:
            return self.released_names[kind]
        return {own: f"{kind}_{own}" for own in _weight_names(self)}


@functools.lru_cache(maxsize=None)
def _weight_names(network: Architecture) -> Tuple[str, ...]:
    from empir.runtime import tf

    with tf.Graph().as_default():
        return tuple(weights(network.build()))


#: Networks that a program has added, by name.
REGISTERED: Dict[str, Architecture] = {}


def register(name: str, layers: Callable, **fields) -> Architecture:
    """Add a network, which can then be named like the paper's, for example with `--network`.

    Args:
      name: of the network.
      layers: its function, see `Architecture`.
      **fields: the other fields of `Architecture`: input_shape, num_classes, quantized_layers and
        nb_filters are needed.

    Raises:
      EmpirError: if there is a network of that name.
    """
    if name in architectures():
        raise EmpirError(f"there is a network {name} already: take another name")
    REGISTERED[name] = Architecture(name, layers, **fields)
    return REGISTERED[name]


def check_filters(nb_filters: int, most: int = MOST_FILTERS) -> int:
    """Return a width if it is an integer from 1 to `most`; else raise `EmpirError`."""
    whole = isinstance(nb_filters, numbers.Integral) and not isinstance(nb_filters, bool)
    if not whole or not 1 <= nb_filters <= most:
        raise EmpirError("nb_filters=%r must be an integer, 1..%d" % (nb_filters, most))
    return int(nb_filters)


def architectures() -> Dict[str, Architecture]:
    """All architectures by name: the paper's, and those that were registered."""
    from empir.nn import alexnet, cifarconv, mnistconv, mnistconv_rand

    modules = (mnistconv, cifarconv, alexnet, mnistconv_rand)
    return dict({module.ARCHITECTURE.name: module.ARCHITECTURE for module in modules}, **REGISTERED)


def architecture(name: str) -> Architecture:
    """Look up an architecture by its name; `EmpirError` if there is none of that name."""
    known = architectures()
    if name not in known:
        raise EmpirError("architecture %r: choose from %s" % (name, ", ".join(sorted(known))))
    return known[name]


def family(precisions) -> str:
    """ "lp" if any layer is quantized, else "fp": the prefix of a released checkpoint's names."""
    return "fp" if all(p.is_full for p in precisions) else "lp"


def weights(model) -> Dict[str, Any]:
    """Latent weights of a model: name ("conv1/kernel") -> variable, in layer order."""
    return {
        "%s/%s" % (layer.name, v.op.name.rsplit("/", 1)[-1]): v
        for layer in model.layers
        for v in layer.weights
    }
