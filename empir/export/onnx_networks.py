"""ONNX graphs of networks, from their steps.

The graphs take images [n, height, width, channels], as everything here does. In the precision
"float" they are of ONNX's standard operators, with the channels first after a transposition. In the
precision "integer", products of levels and quantized weights are those of `lowering`, with ONNX
Runtime's operators `QLinearConv` and `NhwcMaxPool`, which keep the channels last. What is at full
precision stays float.
"""

from dataclasses import replace
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from empir.errors import EmpirError
from empir.export import lowering
from empir.export.onnx_bytes import MOST_STEPS, Products
from empir.export.onnx_graph import Graph, Value, attributes
from empir.export.steps import (
    IMAGES,
    Add,
    Affine,
    Flatten,
    Multiply,
    Network,
    Pool,
    Quantize,
    Rectify,
    Window,
)

PRECISIONS = ("float", "integer")

#: Averages over up to so many pixels are products with a matrix of ones, whose sums are exact.
MOST_AVERAGED = 1024


def is_small(network: Network) -> bool:
    """Whether no layer of a network has more than 8 bits, unless it is at full precision."""
    try:
        check(network)
    except EmpirError:
        return False
    return True


def check(network: Network):
    """Raise `EmpirError` for a network with products of more than 8 bits; it names the layer."""
    for step in network.steps:
        if isinstance(step, Multiply):
            source = network.source(step.inputs[0])
            of_inputs = source.steps if isinstance(source, Quantize) else None
            for what, steps in (("weights", step.weight_steps), ("activations", of_inputs)):
                if steps is not None and steps > MOST_STEPS:
                    bits = steps.bit_length()
                    raise EmpirError(
                        f"the layer {step.name} has {what} of {bits} bits, but integers have up to "
                        "8: export it with --precision=float"
                    )


def add_networks(
    graph: Graph, networks: Sequence[Network], images: str, precision: str
) -> Tuple[List[str], List[Dict[str, str]]]:
    """Append networks that read the same images.

    Args:
      graph: is appended to.
      networks: their steps.
      images: tensor, float32 [n, height, width, channels].
      precision: of `PRECISIONS`.

    Returns:
      The tensors of their logits, float32 [n, classes]; and for each network, name of a quantizer's
      step -> tensor of its levels with the channels last, where they are bytes.

    Raises:
      EmpirError: for a network with products of integers of more than 8 bits.
    """
    integer = precision == "integer"
    writers = [_Writer(graph, network, images, integer) for network in networks]
    if integer:
        for network in networks:
            check(network)
        _share_images(graph, writers)
    for writer in writers:
        writer.write()
    logits = [graph.floats(writer.values[writer.network.logits]) for writer in writers]
    levels = [
        {name: value.tensor for name, value in writer.values.items() if value.levels}
        for writer in writers
    ]
    return [graph.real(each).tensor for each in logits], levels


def _share_images(graph, writers):
    """Compute the levels of images once, and first convolutions of one kind as one."""
    shared: Dict[tuple, List[Tuple[_Writer, lowering.Chain]]] = {}
    for writer in writers:
        first = writer.network.steps[0]
        if not isinstance(first, Quantize):
            continue
        known = [other.values[first.name] for other in writers if first.name in other.values]
        if known:
            writer.values[first.name] = known[0]
        else:
            writer.write_step(first)
        for product in writer.network.readers(first.name):
            chain = lowering.is_integer(writer.network, product) and lowering.chain_of(
                writer.network, product
            )
            if chain and chain.groups == 1 and chain.average is None:
                shared.setdefault((first.name, *chain.key), []).append((writer, chain))
    for group in shared.values():
        if len(group) > 1:
            writer, chain = group[0]
            both = lowering.joined([chain for _, chain in group])
            tensor = writer.products.chain(both, writer.values[both.input])
            sizes = np.array([len(chain.bias) for _, chain in group], np.int64)
            parts = graph.add("Split", tensor, sizes, outputs=len(group), axis=-1)
            for part, (writer, chain) in zip(parts, group):
                writer.values[chain.result] = writer.levels(part, chain)


class _Writer:
    """Appends one network to a graph."""

    def __init__(self, graph: Graph, network: Network, images: str, integer: bool):
        self.graph, self.network, self.integer = graph, network, integer
        self.products = Products(graph)
        self.values: Dict[str, Value] = {IMAGES: Value(images, network.shapes[IMAGES])}

    def write(self):
        """Append the steps that have no value yet and are no part of a chain."""
        for step in self.network.steps:
            known = step.name in self.values
            if not known and all(name in self.values for name in step.inputs):
                self.write_step(step)

    def write_step(self, step):
        """Append a step."""
        values = [self.values[name] for name in step.inputs]
        result = _WRITERS[type(step)](self, step, *values)
        if result is not None:
            shape = self.network.shapes.get(step.name, result.shape)
            self.values[step.name] = replace(result, shape=shape)

    def quantize(self, step: Quantize, x: Value) -> Value:
        """Levels: bytes, or in the precision float their values."""
        add, x = self.graph.add, self.graph.floats(x)
        narrow = len(x.shape) == 3 and x.shape[-1] == 1 and not x.first
        if narrow:  # ONNX Runtime multiplies one value at a time if the last axis has one
            x = replace(x, tensor=self.graph.reshape(x.tensor, -1, x.shape[0] * x.shape[1]))
        factor = np.float32(step.steps / x.denominator)
        scaled = x.tensor if factor == 1 else add("Mul", x.tensor, factor)
        clipped = add("Clip", scaled, np.float32(0), np.float32(step.steps))
        if not self.integer:
            levels = add("Div", add("Round", clipped), np.float32(step.steps))
            levels = self.graph.reshape(levels, -1, *x.shape) if narrow else levels
            return replace(x, tensor=levels, denominator=1)
        tensor = add("QuantizeLinear", clipped, np.float32(1), np.uint8(0))
        if narrow:
            tensor = self.graph.reshape(tensor, -1, *x.shape)
        return self.graph.last(replace(x, tensor=tensor, denominator=step.steps, levels=True))

    def multiply(self, step: Multiply, x: Value) -> Optional[Value]:
        """A product; None where it is the beginning of a chain, whose levels are known then."""
        if not (self.integer and lowering.is_integer(self.network, step)):
            return self.float_product(step, x)
        chain = lowering.chain_of(self.network, step)
        if chain is None:
            return self.products.sums(step, x, self.network.shapes[step.name])
        if chain.result not in self.values:
            self.values[chain.result] = self.levels(self.products.chain(chain, x), chain)
        return None

    def levels(self, tensor: str, chain: lowering.Chain) -> Value:
        """The levels of a chain, in the shape of its quantizer's step."""
        shape = self.network.shapes[chain.result]
        if len(shape) == 1:
            tensor = self.graph.reshape(tensor, -1, shape[0])
        return Value(tensor, shape, denominator=chain.steps, levels=True)

    def float_product(self, step: Multiply, x: Value) -> Value:
        """A product of floats; what the input is to be divided by is in the kernel."""
        graph, x = self.graph, self.graph.floats(x)
        kernel = step.kernel
        if x.denominator != 1:
            kernel = (kernel.astype(np.float64) / x.denominator).astype(np.float32)
        if step.window is None:
            return replace(x, tensor=graph.add("MatMul", x.tensor, kernel), denominator=1)
        x = graph.channels_first(x)
        geometry = dict(attributes(step.window), group=step.groups)
        tensor = graph.add("Conv", x.tensor, kernel.transpose(3, 2, 0, 1), **geometry)
        return replace(x, tensor=tensor, denominator=1)

    def affine(self, step: Affine, x: Value) -> Value:
        """factor * x + offset."""
        graph, x = self.graph, self.graph.floats(x)
        factor, offset = step.factor / x.denominator, step.offset
        if x.first:
            factor = factor[:, None, None]
            offset = offset.transpose(2, 0, 1) if offset.ndim == 3 else offset[:, None, None]
        tensor = x.tensor
        if (factor != 1).any():
            tensor = graph.add("Mul", tensor, factor.astype(np.float32))
        if offset.any():
            tensor = graph.add("Add", tensor, offset.astype(np.float32))
        return replace(x, tensor=tensor, denominator=1)

    def rectify(self, step: Rectify, x: Value) -> Value:
        """max(x, 0)."""
        x = self.graph.floats(x)
        return replace(x, tensor=self.graph.add("Relu", x.tensor))

    def pool(self, step: Pool, x: Value) -> Value:
        """The maximum or the average of windows."""
        graph, x = self.graph, self.graph.floats(x)
        exact = step.average and x.denominator != 1 and not x.first and not step.window.is_padded
        if exact and x.shape[0] * x.shape[1] <= MOST_AVERAGED:
            return self.sum_of_windows(step.window, x)
        x = graph.channels_first(x)
        operator = "AveragePool" if step.average else "MaxPool"
        tensor = graph.add(operator, x.tensor, **attributes(step.window, False))
        return replace(x, tensor=tensor)

    def sum_of_windows(self, window: Window, x: Value) -> Value:
        """The average of integers as their sum over a larger denominator, which is exact."""
        height, width, channels = x.shape
        rows, columns = lowering.places((height, width), window)
        places = rows[:, None, :, None] * width + columns[None, :, None, :]
        places = places.reshape(len(rows) * len(columns), -1)
        ones = np.zeros((len(places), height * width), np.float32)
        np.put_along_axis(ones, places, 1, axis=1)
        flat = self.graph.reshape(x.tensor, -1, height * width, channels)
        tensor = self.graph.add("MatMul", ones, flat)
        tensor = self.graph.reshape(tensor, -1, len(rows), len(columns), channels)
        return replace(x, tensor=tensor, denominator=x.denominator * places.shape[1])

    def flatten(self, step: Flatten, x: Value) -> Value:
        """Values in a row, the channels last."""
        x = self.graph.last(x)
        return replace(x, tensor=self.graph.reshape(x.tensor, -1, int(np.prod(x.shape))))

    def sum(self, step: Add, *values: Value) -> Value:
        """The sum; of fractions as integers over their common denominator."""
        graph = self.graph
        values = tuple(graph.last(graph.floats(value)) for value in values)
        common = int(np.lcm.reduce([value.denominator for value in values]))
        if 1 in [value.denominator for value in values] or common >= lowering.EXACT:
            values, common = tuple(graph.real(value) for value in values), 1
        total = None
        for value in values:
            factor = np.float32(common // value.denominator)
            tensor = value.tensor if factor == 1 else graph.add("Mul", value.tensor, factor)
            total = tensor if total is None else graph.add("Add", total, tensor)
        return replace(values[0], tensor=total, denominator=common)


_WRITERS = {
    Quantize: _Writer.quantize,
    Multiply: _Writer.multiply,
    Affine: _Writer.affine,
    Rectify: _Writer.rectify,
    Pool: _Writer.pool,
    Flatten: _Writer.flatten,
    Add: _Writer.sum,
}
