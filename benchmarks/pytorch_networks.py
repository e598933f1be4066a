"""The paper's networks and ensembles in PyTorch, for the programs that attack them there.

The networks are what a PyTorch user would write for attacks: weights are quantized once and frozen,
and activations are quantized by one function with its own backward pass. They compute the same
logits as `empir.nn` (docs/original.md, Networks). The environment is that of
requirements-pytorch.txt; everything runs on the processor.
"""

import math
import platform
from importlib.metadata import version

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import protocol

#: Images per pass where there is no gradient.
BATCH = 500
MEMORY_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


class QuantizeActivations(torch.autograd.Function):
    """round(steps clip(x, 0, 1)) / steps; the gradient is 1 for 0 <= x <= 1, else 0."""

    @staticmethod
    def forward(ctx, x, steps):
        """Quantized copy of x."""
        clipped = x.clamp(0, 1)
        ctx.save_for_backward(clipped == x)
        return clipped.mul_(steps).round_().div_(steps)

    @staticmethod
    def backward(ctx, gradient):
        """Gradient with respect to x."""
        (inside,) = ctx.saved_tensors
        return gradient * inside, None


class Round(torch.autograd.Function):
    """Rounding whose gradient is 1."""

    @staticmethod
    def forward(ctx, x):
        """Rounded copy of x."""
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        """The gradient, unchanged."""
        return gradient


def quantize_weights(weights: torch.Tensor, steps: int) -> torch.Tensor:
    """DoReFa weights: tanh(w), divided by its largest magnitude, rounded to steps + 1 levels."""
    t = torch.tanh(weights)
    unit = t / t.abs().max() / 2 + 0.5
    return 2 * (Round.apply(unit * steps) / steps) - 1


class QuantConv2d(nn.Module):
    """Convolution without bias; its weights and inputs are quantized where bits are given.

    Args:
      kernel: latent weights, float32 [out, in, height, width].
      weight_bits, activation_bits: None is full precision.
      stride, padding: the same for height and width.
      trainable: whether weights can change; if not, they are quantized once, here.
    """

    def __init__(self, kernel, *, weight_bits, activation_bits, stride, padding, trainable):
        super().__init__()
        self.weight_steps = weight_bits and 2**weight_bits - 1
        self.activation_steps = activation_bits and 2**activation_bits - 1
        self.stride = stride
        self.padding = padding
        if self.weight_steps and not trainable:
            kernel = quantize_weights(kernel, self.weight_steps)
        self.weight = nn.Parameter(kernel, requires_grad=trainable)

    def forward(self, x):
        """Output for float32 [n, in, height, width]."""
        weight = self.weight
        if self.weight_steps and weight.requires_grad:
            weight = quantize_weights(weight, self.weight_steps)
        if self.activation_steps:
            x = QuantizeActivations.apply(x, self.activation_steps)
        return functional.conv2d(x, weight, None, self.stride, self.padding)


class _Layers:
    """Makes the layers of a member of a workload, in the order in which they are applied."""

    def __init__(self, weights, bits, trainable):
        self._weights = weights
        self._bits = bits
        self._trainable = trainable
        self._channels = None  # of the last layer's output

    def conv(self, name, stride=1, padding=0):
        """The convolution of that name; its width is that of its weights."""
        kernel = self._weights[name + "/kernel"].transpose(3, 2, 0, 1)
        self._channels = len(kernel)
        kernel = torch.from_numpy(np.array(kernel))
        return QuantConv2d(
            kernel, stride=stride, padding=padding, trainable=self._trainable, **self._bits
        )

    def linear(self, name):
        """The linear layer of that name."""
        kernel = self._weights[name + "/kernel"]
        rows, units = kernel.shape
        side = math.isqrt(rows // self._channels)
        # TensorFlow flattens its inputs with the channels last, PyTorch with the channels first.
        kernel = kernel.reshape(side, side, self._channels, units).transpose(3, 2, 0, 1)
        self._channels = units
        layer = nn.Linear(rows, units, bias=False)
        kernel = torch.from_numpy(np.array(kernel)).reshape(units, rows)
        layer.weight = nn.Parameter(kernel, requires_grad=self._trainable)
        return layer


def _mnistconv(layers):
    return [
        layers.conv("conv1", stride=2, padding=3),  # TensorFlow's SAME, which is symmetric here
        nn.ReLU(inplace=True),
        layers.conv("conv2", stride=2),
        nn.ReLU(inplace=True),
        layers.conv("conv3"),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        layers.linear("logits"),
    ]


def _cifarconv(layers):
    return [
        layers.conv("conv1", padding=2),
        nn.MaxPool2d(3, 2),
        nn.ReLU(inplace=True),
        layers.conv("conv2", padding=2),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(3, 2),
        layers.conv("conv3", padding=2),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(3, 2),
        nn.Flatten(),
        layers.linear("linear1"),
        layers.linear("logits"),
    ]


ARCHITECTURES = {"MNISTconv": _mnistconv, "CIFARconv": _cifarconv}


def member(workload: protocol.Workload, number: int, trainable: bool) -> nn.Module:
    """A member of a workload: a network from float32 [n, channels, h, w] to logits [n, classes].

    Args:
      workload: holds the weights and bits.
      number: which member, from 0.
      trainable: see `QuantConv2d`.
    """
    layers = _Layers(workload.weights[number], workload.members[number], trainable)
    return nn.Sequential(*ARCHITECTURES[workload.architecture](layers))


class Ensemble(nn.Module):
    """Mean of the members' logits."""

    def __init__(self, members):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images):
        """Mean logits [n, classes] of float32 [n, channels, h, w]."""
        return torch.stack([member(images) for member in self.members]).mean(0)


class PyTorchSystem(protocol.System):
    """The ensemble of a workload in PyTorch.

    Args:
      workload: the members and their weights.
      threads: number of threads that PyTorch computes with.
      memory_format: key of `MEMORY_FORMATS`.

    Attributes:
      packages: names of the packages whose versions belong into a record.
      workload: as given.
      network: the `Ensemble`, with frozen weights.
    """

    packages = ("torch", "numpy")

    def __init__(self, workload: protocol.Workload, threads: int, memory_format="contiguous"):
        torch.set_num_threads(threads)
        self.workload = workload
        self._memory_format = MEMORY_FORMATS[memory_format]
        members = [member(workload, i, trainable=False) for i in range(len(workload.members))]
        self.network = self.arrange(Ensemble(members).eval())

    def arrange(self, tensor_or_module):
        """The tensor or module in the memory format."""
        return tensor_or_module.to(memory_format=self._memory_format)

    def to_torch(self, images: np.ndarray) -> torch.Tensor:
        """Images float32 [n, h, w, c] as a tensor [n, c, h, w]."""
        return self.arrange(torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous())

    def batches(self, images: np.ndarray) -> list:
        """Images float32 [n, h, w, c] as tensors [at most BATCH, c, h, w]."""
        return [self.to_torch(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]

    def logits(self, images):
        """See `protocol.System`."""
        with torch.no_grad():
            return torch.cat([self.network(part) for part in self.batches(images)]).numpy()

    def environment(self):
        """See `protocol.System`."""
        versions = {name: version(name) for name in self.packages}
        versions["python"] = platform.python_version()
        return {"versions": versions, "threads": torch.get_num_threads()}
