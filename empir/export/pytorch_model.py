"""An ensemble of networks of mixed precision (EMPIR) in PyTorch. This file needs PyTorch 2 alone.

    from model import load

    net = load()               # an nn.Module in eval mode, from the two files beside this one
    net(images)                # logits of the decision rule, [n, classes]
    net.members(images)        # logits of each member, [n, members, classes]
    net.vote(images)           # class with the most votes, int64 [n]
    net.decision(images)       # class under the ensemble's own rule, int64 [n]

Images are float32 [n, channels, height, width] in the range that config.json states, [0, 1] but for
AlexNet. Weights are frozen: load().requires_grad_(True).train() is a network to go on training.

Sources: Sen, Ravindran and Raghunathan, "EMPIR: Ensembles of Mixed Precision Deep Networks for
Increased Robustness against Adversarial Attacks" (ICLR 2020); for the quantizers, Zhou et al. 2016,
"DoReFa-Net" (arXiv 1606.06160).
"""

import copy
import hashlib
import itertools
import json
import os
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

#: Gradients that an activation quantizer can have, see `QuantizeActivations`.
BACKWARD_PASSES = ("clipped", "open", "smooth")
#: Images per pass where there is no gradient.
BATCH = 500
#: By how much a decision's logit is made larger than the others where it would not be the largest,
#: as a share of those.
LIFT = 1e-3
#: The lead, in units of a member's size, from which on a member is not pushed further.
ENOUGH = 0.5


class QuantizeActivations(torch.autograd.Function):
    """round(n x) / n of x clipped to [0, 1], where n = 2^bits - 1 is the number of steps.

    The gradient is not that of a staircase, which is 0. Which one it is is called a backward pass:

      clipped   1 for 0 <= x <= 1, else 0 (straight-through, as in training)
      open      1 everywhere
      smooth    6 t (1 - t) inside [0, 1], where t = n x - floor(n x), and 1 at 0 and at 1; else 0.
                It is the derivative of steps that are the cubic 3 t^2 - 2 t^3.

    Attacks may take another one than training (BPDA, Athalye et al. 2018, arXiv 1802.00420).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x, steps, backward):
        """Quantized copy of x, of any shape."""
        return x.clamp(0, 1).mul_(steps).round_().div_(steps)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep what `backward` needs."""
        x, ctx.steps, ctx.name = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, gradient):
        """Gradient with respect to x."""
        if ctx.name == "open":
            return gradient, None, None
        (x,) = ctx.saved_tensors
        if ctx.name == "smooth":
            above = ctx.steps * x - (ctx.steps * x).floor()
            at_the_ends = (x == 0) | (x == 1)
            gradient = gradient * torch.where(at_the_ends, 1.0, 6 * above * (1 - above))
        return torch.where((x >= 0) & (x <= 1), gradient, 0.0), None, None


def weight_levels(weight: torch.Tensor, steps: int) -> torch.Tensor:
    """The level of each weight, a whole number from 0 to steps; level k is 2 k / steps - 1.

    The gradient passes the rounding unchanged; tanh and the largest magnitude are differentiated.
    """
    t = torch.tanh(weight)
    largest = t.abs().max().clamp(min=torch.finfo(t.dtype).tiny)  # of weights that are all 0
    scaled = (t / largest / 2 + 0.5) * steps
    return scaled + (scaled.round() - scaled).detach()  # both operations are exact


class Quantized(nn.Module):
    """What `QuantConv2d` and `QuantLinear` have beside PyTorch's own layers.

    Args:
      weight_bits, activation_bits: of the weights and of the layer's input; None = full precision.

    Attributes:
      weight: latent weights, which a training changes.
      levels: the levels of the weights in eval mode. Those of a file are TensorFlow's; `net.eval()`
        after `net.train()` computes them anew.
    """

    def __init__(self, *args, weight_bits=None, activation_bits=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.weight_steps = weight_bits and 2**weight_bits - 1
        self.activation_steps = activation_bits and 2**activation_bits - 1
        self.backward_pass = BACKWARD_PASSES[0]
        if self.weight_steps:
            kind = torch.uint8 if weight_bits <= 8 else torch.int32
            self.register_buffer("levels", torch.zeros(self.weight.shape, dtype=kind))
            self.register_buffer("kernel", torch.zeros_like(self.weight.detach()), persistent=False)
            self.register_load_state_dict_post_hook(Quantized._use_levels)

    def _use_levels(self, *_):
        levels = self.levels.to(self.kernel.dtype)
        self.kernel.copy_(2 * (levels / self.weight_steps) - 1)

    def train(self, mode=True):
        """As of `nn.Module`; from training to evaluation the weights are quantized anew."""
        if self.weight_steps and self.training and not mode:
            with torch.no_grad():
                levels = weight_levels(self.weight, self.weight_steps).to(torch.int64)
                self.levels.copy_(levels.clamp(max=self.weight_steps))
                self._use_levels()
        return super().train(mode)

    def quantized(self, x):
        """The layer's input and weights as it multiplies them."""
        if self.activation_steps:
            x = QuantizeActivations.apply(x, self.activation_steps, self.backward_pass)
        if not self.weight_steps:
            return x, self.weight
        if not self.training:
            return x, self.kernel
        return x, 2 * (weight_levels(self.weight, self.weight_steps) / self.weight_steps) - 1


class QuantConv2d(Quantized, nn.Conv2d):
    """A convolution without bias, see `Quantized`."""

    def __init__(self, inputs, outputs, size, **kwargs):
        super().__init__(inputs, outputs, size, bias=False, **kwargs)

    def forward(self, x):
        """Output for float32 [n, inputs, height, width]."""
        x, weight = self.quantized(x)
        return functional.conv2d(x, weight, None, self.stride, self.padding, groups=self.groups)


class QuantLinear(Quantized, nn.Linear):
    """A linear layer, see `Quantized`."""

    def forward(self, x):
        """Output for float32 [n, inputs]."""
        x, weight = self.quantized(x)
        return functional.linear(x, weight, self.bias)


class PositionBias(nn.Module):
    """Adds a bias per channel and position, of the shape [1, channels, height, width]."""

    def __init__(self, *shape):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, *shape))

    def forward(self, x):
        """x plus the bias."""
        return x + self.bias


def _relu():
    return nn.ReLU(inplace=True)


def mnistconv(f, bits):
    """The layers of MNISTconv at width f; `bits(name)` are the arguments of a quantized layer."""
    return OrderedDict(
        conv1=QuantConv2d(1, f, 8, stride=2, padding=3, **bits("conv1")),
        relu1=_relu(),
        conv2=QuantConv2d(f, 2 * f, 6, stride=2, **bits("conv2")),
        relu2=_relu(),
        conv3=QuantConv2d(2 * f, 2 * f, 5, **bits("conv3")),
        relu3=_relu(),
        flatten=nn.Flatten(),
        logits=nn.Linear(2 * f, 10, bias=False),
    )


def cifarconv(f, bits):
    """The layers of CIFARconv at width f; see `mnistconv`."""
    return OrderedDict(
        conv1=QuantConv2d(3, f, 5, padding=2, **bits("conv1")),
        pool1=nn.MaxPool2d(3, 2),
        relu1=_relu(),
        conv2=QuantConv2d(f, f, 5, padding=2, **bits("conv2")),
        relu2=_relu(),
        pool2=nn.AvgPool2d(3, 2),
        conv3=QuantConv2d(f, 2 * f, 5, padding=2, **bits("conv3")),
        relu3=_relu(),
        pool3=nn.AvgPool2d(3, 2),
        flatten=nn.Flatten(),
        linear1=nn.Linear(18 * f, 64, bias=False),
        logits=nn.Linear(64, 10, bias=False),
    )


def alexnet(f, bits):
    """The layers of AlexNet at width f; see `mnistconv`."""

    def norm(features):
        return nn.BatchNorm2d(features, eps=1e-3, momentum=0.01)

    return OrderedDict(
        conv1=QuantConv2d(3, 3 * f, 12, stride=4),
        conv1_bias=PositionBias(3 * f, 54, 54),
        relu1=_relu(),
        conv2=QuantConv2d(3 * f, 8 * f, 5, padding=2, groups=2, **bits("conv2")),
        bn2=norm(8 * f),
        pool2=nn.MaxPool2d(3, 2, ceil_mode=True),  # TensorFlow's SAME, of 54 rows
        relu2=_relu(),
        conv3=QuantConv2d(8 * f, 12 * f, 3, padding=1, **bits("conv3")),
        bn3=norm(12 * f),
        pool3=nn.MaxPool2d(3, 2, padding=1),  # TensorFlow's SAME, of 27 rows
        relu3=_relu(),
        conv4=QuantConv2d(12 * f, 12 * f, 3, padding=1, groups=2, **bits("conv4")),
        bn4=norm(12 * f),
        relu4=_relu(),
        conv5=QuantConv2d(12 * f, 8 * f, 3, padding=1, groups=2, **bits("conv5")),
        bn5=norm(8 * f),
        pool5=nn.MaxPool2d(3, 2),
        relu5=_relu(),
        flatten=nn.Flatten(),
        fc6=QuantLinear(288 * f, 4096, **bits("fc6")),
        bn6=nn.BatchNorm1d(4096, eps=1e-3, momentum=0.01),
        relu6=_relu(),
        fc7=QuantLinear(4096, 4096, bias=False, **bits("fc7")),
        bn7=nn.BatchNorm1d(4096, eps=1e-3, momentum=0.01),
        relu7=_relu(),
        logits=nn.Linear(4096, 1000),
    )


#: Networks by name, and the layers that they can quantize.
NETWORKS: dict = {
    "MNISTconv": (mnistconv, ("conv1", "conv2", "conv3")),
    "CIFARconv": (cifarconv, ("conv1", "conv2", "conv3")),
    "AlexNet": (alexnet, ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")),
}


def vote(logits: torch.Tensor, reference: int) -> torch.Tensor:
    """Class with the most votes, int64 [n].

    Args:
      logits: of the members, [n, members, classes].
      reference: index of the member that decides when classes tie, if its class is among them;
        otherwise the first member that voted for one of them does.
    """
    _, members, classes = logits.shape
    order = [reference] + [i for i in range(members) if i != reference]
    ballots = functional.one_hot(logits.argmax(dim=2), classes)[:, order]
    bonus = ballots * torch.arange(members, 0, -1, device=ballots.device)[:, None]
    return ((members + 1) * ballots.sum(1) + bonus.amax(1)).argmax(dim=1)


#: Decision rules: the class of an image, from the members' logits and the reference.
DECISIONS: dict = {
    "mean_logits": lambda logits, _: logits.mean(1).argmax(dim=1),
    "mean_probs": lambda logits, _: logits.softmax(dim=2).sum(1).argmax(dim=1),
    "vote": vote,
}


class Ensemble(nn.Module):
    """Networks that decide together.

    Args:
      config: the content of config.json.

    Attributes:
      networks: the members.
      combine: name of the decision rule, a key of `DECISIONS`.
      reference: index of the member that decides ties of a vote.

    Raises:
      ValueError: if config is not what this file can build.
    """

    def __init__(self, config: dict):
        super().__init__()
        check_config(config)
        self.networks = nn.ModuleList(
            _network(config["architecture"], member) for member in config["members"]
        )
        self.combine, self.reference = config["combine"], config["reference"]

    def members(self, images):
        """Logits of each member, [n, members, classes]."""
        return torch.stack([network(images) for network in self.networks], dim=1)

    def forward(self, images):
        """What the decision rule takes its argmax of, [n, classes]; of a vote the mean logits."""
        logits = self.members(images)
        if self.combine == "mean_probs":
            return logits.log_softmax(2).logsumexp(1) - torch.tensor(float(logits.shape[1])).log()
        return logits.mean(1)

    def vote(self, images):
        """Class with the most votes, int64 [n]."""
        return vote(self.members(images), self.reference)

    def decision(self, images):
        """Class under the decision rule, int64 [n]."""
        return DECISIONS[self.combine](self.members(images), self.reference)

    def with_backward(self, name: str) -> "Ensemble":
        """The same ensemble, which shares its weights, with one of `BACKWARD_PASSES`."""
        _check(name in BACKWARD_PASSES, f"backward {name!r}: choose from {BACKWARD_PASSES}")
        shared = itertools.chain(self.parameters(), self.buffers())
        other = copy.deepcopy(self, {id(tensor): tensor for tensor in shared})
        for module in other.modules():
            if isinstance(module, Quantized):
                module.backward_pass = name
        return other

    def view(self, name: str, clean=None) -> "View":
        """What an attack differentiates, see `View`."""
        return View(self, name, clean)


class View(nn.Module):
    """What an attack on an ensemble differentiates, as logits [n, classes].

      decision         what the decision rule takes its argmax of; for vote, the mean logits
      full_precision   the logits of the reference, the last member of full precision
      majority_probs   mean softmax of the members that agree with the vote, as if it were logits:
                       what the paper's FGSM and PGD differentiate
      followed         logits whose largest is always the class of the decision rule, also of a
                       vote: for attacks that judge by it whether they succeed, such as AutoAttack

    Args:
      net: the ensemble.
      name: of the view.
      clean: for followed, some of the images that are attacked: members are compared at the mean
        lead of their decisions on them.
    """

    def __init__(self, net: Ensemble, name: str, clean=None):
        super().__init__()
        _check(name in VIEWS, f"view {name!r}: choose from {', '.join(VIEWS)}")
        self.net, self.name = net, name
        if name == "followed":
            _check(clean is not None, "the view followed needs clean images")
            with torch.no_grad():
                logits = torch.cat([net.members(part) for part in clean.split(BATCH)])
            self.register_buffer("sizes", sizes_of(logits))
        self.eval()

    def forward(self, images):
        """Logits of the view."""
        return VIEWS[self.name](self, images)


def leads(logits: torch.Tensor) -> torch.Tensor:
    """By how much each class leads the best other one; only that of the largest logit is > 0."""
    return logits - _best_of_others(logits)


def _best_of_others(scores):
    """For each class the largest score of another one; scores: [..., classes]."""
    best, second = scores.topk(2, dim=-1).values.split(1, dim=-1)
    return torch.where(scores >= best, second, best)


def majority_probs(logits, reference):
    """Mean softmax of the members that agree with the vote; of a single network its logits."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    agree = logits.argmax(dim=2) == vote(logits, reference)[:, None]
    return (logits.softmax(2) * agree[:, :, None]).sum(1) / agree.sum(1, keepdim=True)


def vote_leads(member_leads, reference):
    """By how much each class wins the vote, [n, classes]; it is > 0 of the winner alone.

    A class wins if more than half of the members vote for it, or if the reference does and there
    is no such class. For up to three members this is the vote. More of them also elect a class
    that has the most votes but no majority, which is left out.
    """
    majority = member_leads.shape[1] // 2 + 1
    common = member_leads.topk(majority, dim=1).values[:, -1]
    alone = torch.minimum(member_leads[:, reference], -_best_of_others(common))
    return torch.maximum(common, alone)


def sizes_of(logits):
    """The mean lead of each member's decision, [members], by which members are compared."""
    sizes = leads(logits).amax(2).mean(0)
    return sizes.clamp(min=torch.finfo(sizes.dtype).tiny)


def _followed_vote(logits, sizes, reference):
    """How the vote stands, and how the members stand on average, up to `ENOUGH`.

    The former alone has the gradient of one member, and the latter does not tell which members are
    needed. With their sum AutoAttack succeeds on more images than with either.
    """
    scaled = leads(logits) / sizes[:, None]
    return vote_leads(scaled, reference) + scaled.clamp(max=ENOUGH).mean(1)


def _followed_mean_probs(logits, sizes, _):
    """The mean probability's logarithm, and how the members stand on average.

    The gradient of the former alone is zero where a member's probabilities are 0 and 1 in float32.
    """
    log_probs = logits.log_softmax(dim=2).logsumexp(1)
    return leads(log_probs) / sizes.mean() + (leads(logits) / sizes[:, None]).mean(1)


_FOLLOWED: dict = {
    "mean_logits": lambda logits, *_: logits.mean(1),
    "mean_probs": _followed_mean_probs,
    "vote": _followed_vote,
}


def followed(logits, combine: str, reference: int, sizes):
    """Differentiable logits [n, classes] whose largest is always the class of the decision rule.

    Where it is not the largest by itself it is raised above the others by a constant, which leaves
    the gradient as it is. The logits of a single network are its own.

    Args:
      logits: of the members, [n, members, classes].
      combine, reference: see `Ensemble`.
      sizes: of the members, see `sizes_of`.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    found = _FOLLOWED[combine](logits, sizes, reference)
    decided = DECISIONS[combine](logits, reference)[:, None]
    largest = found.amax(1, keepdim=True)
    lacking = largest - found.gather(1, decided) + LIFT * (1 + largest.abs())
    is_other = found.argmax(1, keepdim=True) != decided
    return found.scatter_add(1, decided, (lacking * is_other).detach())


VIEWS: dict = {
    "decision": lambda view, images: view.net(images),
    "full_precision": lambda view, images: view.net.networks[view.net.reference](images),
    "majority_probs": lambda view, images: majority_probs(
        view.net.members(images), view.net.reference
    ),
    "followed": lambda view, images: followed(
        view.net.members(images), view.net.combine, view.net.reference, view.sizes
    ),
}


def _network(architecture, member):
    """A member as a module, from its entry in config.json."""
    layers, _ = NETWORKS[architecture]
    return nn.Sequential(layers(member["nb_filters"], lambda name: member["layers"][name]))


def _check(holds, message):
    if not holds:
        raise ValueError(message)


def check_config(config: dict):
    """Raise `ValueError`, in one line, if config is not what `Ensemble` can build."""
    _check(isinstance(config, dict), "config.json holds no object")
    members = config.get("members") or []
    choices = dict(format=(1,), architecture=NETWORKS, combine=DECISIONS)
    for key, known in dict(choices, reference=range(len(members))).items():
        value, listed = config.get(key), ", ".join(map(str, known))
        _check(value in known, f"config.json: {key} is {value!r}, not one of: {listed}")
    _, names = NETWORKS[config["architecture"]]
    for number, member in enumerate(members, 1):
        width, layers = member.get("nb_filters"), member.get("layers", {})
        _check(type(width) is int and width > 0, f"member {number}: nb_filters is {width!r}")
        _check(set(layers) == set(names), f"member {number}: layers are not {', '.join(names)}")
        for name, layer in layers.items():
            _check(
                set(layer) == {"weight_bits", "activation_bits"}
                and all(b is None or type(b) is int and 1 <= b <= 31 for b in layer.values()),
                f"member {number}, {name}: {layer}: bits are 1..31, or null for full precision",
            )


#: Types of arrays in a file of weights, as the format safetensors names them.
_TYPES = {"F32": torch.float32, "U8": torch.uint8, "I32": torch.int32, "I64": torch.int64}


def read_weights(path: str, sha256=None) -> dict:
    """Tensors by name of a file in the format safetensors, whose digest is checked if it is given.

    Raises:
      ValueError: if the file has another digest, or is none of that format.
    """
    with open(path, "rb") as file:
        content = bytearray(file.read())
    found = hashlib.sha256(content).hexdigest()
    _check(sha256 in (None, found), f"{path} has the sha256 {found}, but config.json says {sha256}")
    begin, tensors = 8 + int.from_bytes(content[:8], "little"), {}
    try:
        header = json.loads(content[8:begin].decode())
        for name in sorted(set(header) - {"__metadata__"}):
            entry, kind = header[name], _TYPES[header[name]["dtype"]]
            first, last = (begin + place for place in entry["data_offsets"])
            flat = torch.frombuffer(content[first:last], dtype=kind)
            tensors[name] = flat.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} is no file of weights ({type(error).__name__}: {error})"
        ) from None
    return tensors


def load(folder=None) -> Ensemble:
    """The ensemble of a folder, in eval mode, on the processor.

    Args:
      folder: holds config.json and weights.safetensors; None is that of this file.

    Raises:
      ValueError: if a file is damaged or of something else; the message is one line.
      OSError: if one is missing.
    """
    folder = os.path.dirname(os.path.abspath(__file__)) if folder is None else folder
    with open(os.path.join(folder, "config.json"), encoding="utf8") as file:
        config = json.load(file)
    path = os.path.join(folder, "weights.safetensors")
    net = Ensemble(config).eval().requires_grad_(False)
    try:
        net.load_state_dict(read_weights(path, config.get("weights_sha256")))
    except RuntimeError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    return net
