"""The networks of the paper, one file each, and the table that names them."""

import numbers
from typing import Any, Callable, Dict, NamedTuple, Tuple

from empir.errors import EmpirError
from empir.nn.precision import FULL

#: Largest width of a network that is computed with, and of one whose cost is counted only. The
#: paper's are 32 and 64 wide.
MOST_FILTERS, MOST_COUNTED = 4096, 10**6


class Architecture(NamedTuple):
    """A network as data: what the rest of the package needs to know of it.

    Attributes:
      name: the paper's name, e.g. "MNISTconv".
      layers: `layers(stack, nb_filters)` adds the network's layers to a `stack.Stack`, the last
        of them named "logits".
      input_shape: [height, width, channels].
      num_classes: number of classes.
      quantized_layers: names of the layers that a low-precision network quantizes, in order.
      nb_filters: default width.
      released_names: per family that there is, "fp" or "lp", our weight name ("conv1/kernel") ->
        the variable's name in a released checkpoint (docs/original.md, Checkpoint variables); the
        first convolution's kernel comes first.
      first_filters: filters of the first convolution per unit of `nb_filters`, by which the width
        of a checkpoint is read from its shapes.
    """

    name: str
    layers: Callable
    input_shape: Tuple[int, int, int]
    num_classes: int
    quantized_layers: Tuple[str, ...]
    nb_filters: int
    released_names: Dict[str, Dict[str, str]]
    first_filters: int = 1

    def build(self, precision=FULL, nb_filters=None, temperature: float = 1.0, **options):
        """Build the network in the current graph.

        Args:
          precision: a `Precision` for all quantized layers, or one for each of them.
          nb_filters: filters of the first convolution, which set those of the others; None = the
            architecture's default.
          temperature: factor on the logits inside the softmax.
          **options: see `stack.Stack`: stochastic_rounding, trainable, seed.

        Returns:
          A `keras.Sequential` from float32 images [batch, *input_shape] to probabilities
          [batch, num_classes]; its layer "logits" gives the logits.

        Raises:
          EmpirError: for bits outside 1..32, a number of precisions that is neither one nor the
            number of quantized layers, or a width that is no number of filters.
        """
        from empir.nn.layers import Softmax
        from empir.nn.stack import Stack

        width = self.nb_filters if nb_filters is None else check_filters(nb_filters, MOST_COUNTED)
        stack = Stack(self.name, self.input_shape, self.quantized_layers, precision, **options)
        self.layers(stack, width)
        stack.add(Softmax(temperature, name="probs"))
        return stack.model


def check_filters(nb_filters: int, most: int = MOST_FILTERS) -> int:
    """Return a width if it is an integer from 1 to `most`; else raise `EmpirError`."""
    whole = isinstance(nb_filters, numbers.Integral) and not isinstance(nb_filters, bool)
    if not whole or not 1 <= nb_filters <= most:
        raise EmpirError("nb_filters=%r must be an integer, 1..%d" % (nb_filters, most))
    return int(nb_filters)


def architectures() -> Dict[str, Architecture]:
    """All architectures by the paper's name."""
    from empir.nn import alexnet, cifarconv, mnistconv, mnistconv_rand

    modules = (mnistconv, cifarconv, alexnet, mnistconv_rand)
    return {module.ARCHITECTURE.name: module.ARCHITECTURE for module in modules}


def architecture(name: str) -> Architecture:
    """Look up an architecture by the paper's name; `EmpirError` if there is none of that name."""
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
