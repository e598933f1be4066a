"""ONNX graphs as they are written: nodes, constants, and what their tensors stand for."""

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Tuple

import numpy as np

from empir.export.steps import Window

#: Versions of the operator sets: the standard one, and ONNX Runtime's own.
OPERATORS = {"": 13, "com.microsoft": 1}


@dataclass(frozen=True)
class Value:
    """A tensor of a graph and what it stands for.

    Attributes:
      tensor: its name.
      shape: [height, width, channels] or [channels], without the batch.
      first: whether the tensor has the channels first.
      denominator: the value is the tensor over this.
      levels: whether it holds bytes, and not float32.
    """

    tensor: str
    shape: Tuple[int, ...]
    first: bool = False
    denominator: int = 1
    levels: bool = False


class Graph:
    """Nodes and constants of an ONNX graph.

    Attributes:
      nodes: in the order of computation.
      constants: name -> array.
    """

    def __init__(self):
        self.nodes: List[Any] = []
        self.constants: Dict[str, np.ndarray] = {}
        self._known: Dict[tuple, str] = {}

    def constant(self, array) -> str:
        """Name of a constant; equal ones are kept once."""
        array = np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"constant{len(self.constants)}"
            self.constants[self._known[key]] = array
        return self._known[key]

    def add(self, operator: str, *inputs, outputs: int = 1, name=None, own=False, **attributes):
        """Append a node.

        Args:
          operator: its type.
          *inputs: names of tensors, or arrays, which become constants.
          outputs: how many there are.
          name: of the only output; None = a number.
          own: whether the operator is ONNX Runtime's.
          **attributes: of the operator.

        Returns:
          The name of its output, or a list of names if there are several.
        """
        from onnx import helper

        given = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        stem = name or f"{operator.lower()}{len(self.nodes)}"
        names = [stem] if outputs == 1 else [f"{stem}_{number}" for number in range(outputs)]
        domain = "com.microsoft" if own else ""
        node = helper.make_node(operator, given, names, stem, domain=domain, **attributes)
        self.nodes.append(node)
        return names[0] if outputs == 1 else names

    def reshape(self, tensor: str, *shape: int) -> str:
        """A tensor with another shape, of which one size is -1."""
        return self.add("Reshape", tensor, np.array(shape, np.int64))

    def last(self, value: Value) -> Value:
        """A value with the channels last."""
        if not value.first:
            return value
        tensor = self.add("Transpose", value.tensor, perm=[0, 2, 3, 1])
        return replace(value, tensor=tensor, first=False)

    def channels_first(self, value: Value) -> Value:
        """A value with the channels first, if it is one of images."""
        if value.first or len(value.shape) == 1:
            return value
        tensor = self.add("Transpose", value.tensor, perm=[0, 3, 1, 2])
        return replace(value, tensor=tensor, first=True)

    def floats(self, value: Value) -> Value:
        """A value as float32."""
        if not value.levels:
            return value
        return replace(value, tensor=self.add("Cast", value.tensor, to=1), levels=False)

    def real(self, value: Value) -> Value:
        """A float value over 1."""
        if value.denominator == 1:
            return value
        tensor = self.add("Mul", value.tensor, np.float32(1 / value.denominator))
        return replace(value, tensor=tensor, denominator=1)


def attributes(window: Window, dilated: bool = True) -> dict:
    """ONNX's attributes of a window."""
    (top, bottom), (left, right) = window.pads
    found = {
        "kernel_shape": list(window.size),
        "strides": list(window.strides),
        "pads": [top, left, bottom, right],
    }
    return dict(found, dilations=list(window.dilation)) if dilated else found
