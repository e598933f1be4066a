"""The benchmark's PyTorch systems: Foolbox and torchattacks on the paper's networks.

    python benchmarks/pytorch_worker.py WORKLOAD --library=foolbox

Runs as a script, in the environment of requirements-pytorch.txt, on the processor. The networks are
what a PyTorch user would write for attacks: weights are quantized once and frozen, activations by
one function with its own backward pass. They compute what `empir.nn` does (docs/original.md,
Networks).
"""

import contextlib
import math
import platform

import numpy as np
import protocol
import torch
from torch import nn
from torch.nn import functional

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
    """DoReFa weights: t = tanh(w) to steps + 1 levels between -max|t| and max|t|, over max|t|."""
    t = torch.tanh(weights)
    unit = t / t.abs().max() / 2 + 0.5
    return 2 * (Round.apply(unit * steps) / steps) - 1


class QuantConv2d(nn.Module):
    """Convolution without bias; its weights and inputs are quantized if they have bits.

    Args:
      kernel: latent weights, float32 [out, in, height, width].
      weight_bits, activation_bits: None = full precision.
      stride, padding: of both directions.
      trainable: False quantizes the weights once, here.
    """

    def __init__(self, kernel, weight_bits, activation_bits, stride, padding, trainable):
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
    """Makes a member's layers from its weights in `protocol.Workload`'s order of axes."""

    def __init__(self, weights, bits, trainable):
        self._weights = weights
        self._bits = bits
        self._trainable = trainable
        self._channels = None

    def conv(self, name, stride=1, padding=0):
        """The convolution of that name."""
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
        # Its inputs were flattened channels last; PyTorch's Flatten has the channels first.
        kernel = kernel.reshape(side, side, self._channels, units).transpose(3, 2, 0, 1)
        self._channels = units
        layer = nn.Linear(rows, units, bias=False)
        kernel = torch.from_numpy(np.array(kernel)).reshape(units, rows)
        layer.weight = nn.Parameter(kernel, requires_grad=self._trainable)
        return layer


def _mnistconv(layers):
    return [
        layers.conv("conv1", stride=2, padding=3),  # TensorFlow's SAME, here symmetric
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
    """A member with the workload's weights, from float32 [n, channels, h, w] to logits."""
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


def foolbox_attack(ensemble, name, parameters, images, labels):
    """A function that runs Foolbox's attack; without `__call__`'s evaluation of the result."""
    import foolbox

    bounds = parameters["clip_min"], parameters["clip_max"]
    model = foolbox.PyTorchModel(ensemble, bounds=bounds, device="cpu")
    if name == "cw":
        attack = foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=parameters["binary_search_steps"],
            steps=parameters["max_iterations"],
            stepsize=parameters["learning_rate"],
            confidence=parameters["confidence"],
            initial_const=parameters["initial_const"],
            abort_early=parameters["abort_early"],
        )

        def run():
            adversarial = attack.run(model, images, labels)
            # Where it finds none it returns a black image; the others return the clean one.
            found = adversarial.flatten(1).any(1)[:, None, None, None]
            return torch.where(found, adversarial, images)

        return run
    if name == "fgsm":
        attack = foolbox.attacks.LinfFastGradientAttack()
    else:
        classes = {
            "bim": foolbox.attacks.LinfBasicIterativeAttack,
            "pgd": foolbox.attacks.LinfPGD,
        }
        attack = classes[name](
            abs_stepsize=parameters["eps_iter"],
            steps=parameters["nb_iter"],
            random_start=name == "pgd",
        )
    return lambda: attack.run(model, images, labels, epsilon=parameters["eps"])


def torchattacks_attack(ensemble, name, parameters, images, labels):
    """A function that runs torchattacks' attack.

    Raises:
      protocol.Unavailable: for images outside [0, 1], and for a search for CW's constant.
    """
    import torchattacks

    if (parameters["clip_min"], parameters["clip_max"]) != (0, 1):
        raise protocol.Unavailable("torchattacks clips to [0, 1]")
    if name == "cw":
        if parameters["binary_search_steps"] > 1:
            raise protocol.Unavailable("torchattacks' CW has one constant, binary_search_steps=1")
        attack = torchattacks.CW(
            ensemble,
            c=parameters["initial_const"],
            kappa=parameters["confidence"],
            steps=parameters["max_iterations"],
            lr=parameters["learning_rate"],
        )
    elif name == "fgsm":
        attack = torchattacks.FGSM(ensemble, eps=parameters["eps"])
    else:
        attack = {"bim": torchattacks.BIM, "pgd": torchattacks.PGD}[name](
            ensemble,
            eps=parameters["eps"],
            alpha=parameters["eps_iter"],
            steps=parameters["nb_iter"],
        )
    return lambda: attack(images, labels)


LIBRARIES = {"foolbox": foolbox_attack, "torchattacks": torchattacks_attack}


class PyTorchSystem(protocol.System):
    """A PyTorch library's attacks on the workload's ensemble."""

    def __init__(self, workload: protocol.Workload, library: str, threads: int, memory_format: str):
        torch.set_num_threads(threads)
        self.forward_passes = 0
        self._workload = workload
        self._library = library
        self._memory_format = memory_format
        members = [member(workload, i, trainable=False) for i in range(len(workload.members))]
        self._ensemble = self._arrange(Ensemble(members).eval())
        self._ensemble.register_forward_hook(self._count)

    def _count(self, *_):
        self.forward_passes += 1

    def _arrange(self, tensor_or_module):
        return tensor_or_module.to(memory_format=MEMORY_FORMATS[self._memory_format])

    def _images(self, images):
        return self._arrange(torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous())

    def logits(self, images):
        """See `protocol.System`."""
        with torch.no_grad():
            return self._ensemble(self._images(images)).numpy()

    @contextlib.contextmanager
    def attack(self, name, parameters, images, labels):
        """See `protocol.System`."""
        if name not in ("fgsm", "bim", "pgd", "cw"):
            raise protocol.Unavailable("attack %r: choose from fgsm, bim, pgd, cw" % name)
        torch.manual_seed(parameters.get("seed", 0))
        run = LIBRARIES[self._library](
            self._ensemble, name, parameters, self._images(images), torch.from_numpy(labels)
        )
        yield lambda: run().permute(0, 2, 3, 1).numpy()

    @contextlib.contextmanager
    def training(self, number, images, labels):
        """See `protocol.System`."""
        network = self._arrange(member(self._workload, number, trainable=True).train())
        for weight in network.parameters():
            nn.init.kaiming_normal_(weight)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        images, labels = self._images(images), torch.from_numpy(labels)

        def step():
            optimizer.zero_grad()
            functional.cross_entropy(network(images), labels).backward()
            optimizer.step()

        yield step

    @contextlib.contextmanager
    def gemm(self, size):
        """See `protocol.System`."""
        matrix = torch.randn(size, size)
        yield lambda: matrix @ matrix

    def environment(self):
        """See `protocol.System`."""
        from importlib.metadata import version

        packages = ("torch", self._library, "numpy")
        versions = dict(
            {name: version(name) for name in packages}, python=platform.python_version()
        )
        versions["memory_format"] = self._memory_format
        return {"versions": versions, "threads": torch.get_num_threads()}


def main():
    """Serve the system that the command line names."""
    parser = protocol.parser(__doc__.splitlines()[0], LIBRARIES)
    parser.add_argument("--memory_format", choices=MEMORY_FORMATS, default="contiguous")
    chosen = vars(parser.parse_args())
    path = chosen.pop("workload")
    protocol.serve(lambda workload: PyTorchSystem(workload, **chosen), path)


if __name__ == "__main__":
    main()
