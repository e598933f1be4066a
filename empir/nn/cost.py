"""What an ensemble costs beside one full-precision network, counted from the networks' layers.

Counting rules:

- Parameters are all weights of a checkpoint: kernels, biases, and all four vectors of a batch
  normalisation, moving statistics included.
- Memory is that of the parameters. A kernel of w-bit weights takes w bits a weight, packed and
  rounded up to whole bytes; every other parameter takes four bytes.
- Multiplications are those of one forward pass of one image in convolutions and linear layers, an
  addition going with each. Pools, rectifiers, normalisations and the quantizers are not counted.
- Rule A, bit operations: a product of a w-bit weight and an a-bit activation counts w * a, so
  w * a / 1024 of one at full precision (32 bits each).
- Rule B, the wider operand: such a product counts max(w, a) / 32.
- Layers that a low-precision network leaves at full precision count in full, under every rule.
- The overhead is the ensemble's cost over that of one full-precision network of its architecture
  and width, minus one. In the paper's ensembles the third member is that network, so the overhead
  is what the two low-precision members add.

Faithfulness: these are the rules of docs/original.md, Paper, whose figures they reproduce. The
paper's own rules are not known. Rule B's 25.0 % of MNISTconv would come out without the
full-precision layer too (its 1,280 products are too few to show), but the 19.4 % of CIFARconv and
30.4 % of AlexNet would not.
"""

from dataclasses import dataclass, replace
from typing import List, NamedTuple, Optional, Sequence, Tuple

from empir.nn import Architecture
from empir.nn.precision import FULL, FULL_PRECISION_BITS, per_layer


class Cost(NamedTuple):
    """What a layer, a network or an ensemble costs, by the rules of this module.

    It is a tuple, so that `total` can add costs entry by entry.

    Attributes:
      parameters: number of weights, kept for evaluation.
      quantized_parameters: those of kernels of less than 32 bits.
      weight_bytes: memory of the parameters.
      multiplications: per image.
      bit_operations: per image, by rule A.
      scaled_multiplications: per image, by rule B, as multiplications at full precision.
    """

    parameters: int = 0
    quantized_parameters: int = 0
    weight_bytes: int = 0
    multiplications: int = 0
    bit_operations: int = 0
    scaled_multiplications: float = 0.0


@dataclass(frozen=True)
class LayerCost:
    """A row of the layer table.

    Attributes:
      layer, kind: the layer's name and class.
      output_shape: without the batch.
      weight_bits: of its kernel, or 32 for other parameters; None if it has none.
      activation_bits: of the input that its kernel multiplies; None if it has no kernel.
      cost: of the layer.
    """

    layer: str
    kind: str
    output_shape: Tuple[int, ...]
    weight_bits: Optional[int]
    activation_bits: Optional[int]
    cost: Cost


def layer_cost(layer) -> LayerCost:
    """Cost of a Keras layer of fixed sizes (channels last); without quantizers, at 32 bits."""
    parameters = sum(weight.shape.num_elements() for weight in layer.weights)
    row = LayerCost(
        layer.name,
        type(layer).__name__,
        tuple(int(size) for size in layer.output_shape[1:]),
        FULL_PRECISION_BITS if parameters else None,
        None,
        Cost(parameters=parameters, weight_bytes=4 * parameters),
    )
    if not hasattr(layer, "kernel"):
        return row
    weight_bits = _bits(layer, "kernel_quantizer")
    activation_bits = _bits(layer, "input_quantizer")
    kernel = layer.kernel.shape.num_elements()
    products = kernel
    for positions in layer.output_shape[1:-1]:  # a linear layer has none
        products *= positions
    cost = Cost(
        parameters=parameters,
        quantized_parameters=kernel if weight_bits < FULL_PRECISION_BITS else 0,
        weight_bytes=4 * (parameters - kernel) + (kernel * weight_bits + 7) // 8,
        multiplications=products,
        bit_operations=products * weight_bits * activation_bits,
        scaled_multiplications=products * max(weight_bits, activation_bits) / FULL_PRECISION_BITS,
    )
    return replace(row, weight_bits=weight_bits, activation_bits=activation_bits, cost=cost)


def _bits(layer, quantizer):
    return getattr(getattr(layer, quantizer, None), "bits", FULL_PRECISION_BITS)


def layer_costs(model) -> List[LayerCost]:
    """Costs of a Keras model, layer by layer."""
    from empir.nn.layers import layers_of

    return [layer_cost(layer) for layer in layers_of(model)]


def total(costs: Sequence[Cost]) -> Cost:
    """Sum of costs, entry by entry."""
    return Cost(*(sum(entries) for entries in zip(*costs)))


def multiplications(model) -> int:
    """Multiplications of one forward pass of one image, in convolutions and linear layers."""
    return total([row.cost for row in layer_costs(model)]).multiplications


def network_costs(network: Architecture, precision=FULL, nb_filters=None) -> List[LayerCost]:
    """Costs of a network that is built for this, layer by layer; arguments as of `build`.

    Raises:
      EmpirError: see `Architecture.build`.
    """
    from empir.runtime import tf

    with tf.Graph().as_default():
        return layer_costs(network.build(precision, nb_filters))


def overhead(cost: Cost, full_precision: Cost) -> dict:
    """By how many percent a cost exceeds that of one full-precision network, entry by entry."""
    return {
        name: round(100 * (value / reference - 1), 4)
        for name, value, reference in zip(Cost._fields, cost, full_precision)
        if name != "quantized_parameters"  # the reference has none
    }


def ensemble_cost(
    network: Architecture, members: Sequence[tuple], nb_filters=None, layers: bool = False
) -> dict:
    """An ensemble's cost as plain data, for JSON.

    Args:
      network: the members' architecture.
      members: pairs of a name and a precision, or a name and one for each quantized layer.
      nb_filters: width; None = the architecture's default.
      layers: whether to add the layers of each member.

    Returns:
      A dict with architecture and nb_filters; members: per member its name, its precision in the
      notation of `precision.parse_layers`, and its `Cost` as a dict; the ensemble's cost,
      full_precision, that of one full-precision network, and overhead_percent.

    Raises:
      EmpirError: for bits outside 1..32, or a number of precisions that is neither one nor the
        number of quantized layers.
    """
    quantized = len(network.quantized_layers)
    members = [(name, per_layer(precision, quantized)) for name, precision in members]
    full = per_layer(FULL, quantized)
    distinct = {precisions for _, precisions in members} | {full}
    rows = {p: network_costs(network, p, nb_filters) for p in distinct}
    costs = {p: total([row.cost for row in rows[p]]) for p in distinct}
    ensemble = total([costs[precisions] for _, precisions in members])
    described = [
        dict(name=name, precision=_in_words(p), **costs[p]._asdict()) for name, p in members
    ]
    if layers:
        for member, (_, p) in zip(described, members):
            member["layers"] = [_layer_record(row) for row in rows[p]]
    return dict(
        architecture=network.name,
        nb_filters=network.nb_filters if nb_filters is None else nb_filters,
        members=described,
        ensemble=dict(ensemble._asdict()),
        full_precision=dict(costs[full]._asdict()),
        overhead_percent=overhead(ensemble, costs[full]),
    )


def _in_words(precisions):
    distinct = set(precisions)
    return "/".join(str(p) for p in (distinct if len(distinct) == 1 else precisions))


def _layer_record(row):
    record = dict(vars(row), output_shape=list(row.output_shape))
    return dict(record, **record.pop("cost")._asdict())
