"""The networks of the paper, one file each, and the table that names them."""

from typing import Callable, Dict, NamedTuple, Tuple

from empir.errors import EmpirError


class Architecture(NamedTuple):
    """A network as data: what the rest of the package needs to know of it.

    Attributes:
      name: the paper's name, e.g. "MNISTconv".
      build: `build(precision, **options)` -> a `keras.Sequential` ending in layers named
        "logits" and "probs".
      input_shape: [height, width, channels].
      num_classes: number of classes.
      quantized_layers: names of the layers that a low-precision network quantizes, in order.
      nb_filters: default width.
      released_names: per family, "fp" or "lp", our weight name ("conv1/kernel") -> the variable's
        name in a released checkpoint (FACTS 2.9).
    """

    name: str
    build: Callable
    input_shape: Tuple[int, int, int]
    num_classes: int
    quantized_layers: Tuple[str, ...]
    nb_filters: int
    released_names: Dict[str, Dict[str, str]]


def architectures() -> Dict[str, Architecture]:
    """All architectures by the paper's name."""
    from empir.models import mnistconv

    return {found.name: found for found in (mnistconv.ARCHITECTURE,)}


def architecture(name: str) -> Architecture:
    """Look up an architecture by the paper's name; `EmpirError` if there is none of that name."""
    known = architectures()
    if name not in known:
        raise EmpirError("architecture %r: choose from %s" % (name, ", ".join(sorted(known))))
    return known[name]


def family(precisions) -> str:
    """ "lp" if any layer is quantized, else "fp": the prefix of a released checkpoint's names."""
    return "fp" if all(p.is_full for p in precisions) else "lp"


def weights(model) -> Dict[str, object]:
    """Latent weights of a model: name ("conv1/kernel") -> variable, in layer order."""
    return {
        "%s/%s" % (layer.name, v.op.name.rsplit("/", 1)[-1]): v
        for layer in model.layers
        for v in layer.weights
    }
