"""The comparison's attacks as plain PyTorch loops around a network that `torch.compile` compiled.

    python -m benchmarks.compiled_worker WORKLOAD

This is what PyTorch can do without a library in between: the network, the loss and what belongs to
them are one graph, forward and backward, which inductor turns into C++ and oneDNN's kernels.
Preparing an attack compiles, so no call contains a compilation. Where there is no C++ compiler that
inductor can use, no attack is available.

Runs in the clone, in the environment of requirements-pytorch.txt, and answers as `protocol` says.
"""

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile

import torch
from torch.nn import functional

from benchmarks import protocol, pytorch_networks


def check_compiler(compiled):
    """Compile a trivial function by `compiled`.

    Raises:
      protocol.Unavailable: if that fails, whatever the reason.
    """
    try:
        compiled(lambda x: x.sin() + 1)(torch.zeros(64))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise protocol.Unavailable(f"torch.compile does not work here: {reason}")


def signed_steps(compiled, network, parameters, images, labels, random_start=False):
    """FGSM, BIM and PGD: two functions, of which the first compiles and the second attacks.

    Args:
      compiled: makes a function of tensors a compiled one.
      network: from images to logits.
      parameters: see `protocol.System.attack`.
      images: [n, c, h, w].
      labels: int64 [n].
      random_start: whether the first step is taken from a random image in the ball.
    """
    eps, low, high = (parameters[key] for key in ("eps", "clip_min", "clip_max"))
    size, steps = (parameters.get("eps_iter", eps), parameters.get("nb_iter", 1))
    lower, upper = (images - eps).clamp(min=low), (images + eps).clamp(max=high)

    @compiled
    def loss(image, labels):
        return functional.cross_entropy(network(image), labels, reduction="sum")

    @compiled
    def moved(image, gradient, lower, upper):
        return torch.minimum(torch.maximum(image + size * gradient.sign(), lower), upper)

    def step(image):
        image = image.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(image, labels), image)
        with torch.no_grad():
            return moved(image.detach(), gradient, lower, upper)

    def run():
        image = images
        if random_start:
            image = images + torch.empty_like(images).uniform_(-eps, eps)
        for _ in range(steps):
            image = step(image)
        return image

    return lambda: step(images), run


def carlini_wagner(compiled, network, parameters, images, labels):
    """CW-L2 with a binary search for its constant; arguments and results as of `signed_steps`."""
    low, span = parameters["clip_min"], parameters["clip_max"] - parameters["clip_min"]
    confidence = parameters["confidence"]
    start = torch.atanh(((images - low) / span * 2 - 1) * 0.999999)
    original = (torch.tanh(start) + 1) / 2 * span + low
    one_hot = functional.one_hot(labels, network(images[:1]).shape[1]).float()

    @compiled
    def objective(delta, const, start, original, one_hot):
        image = (torch.tanh(start + delta) + 1) / 2 * span + low
        logits = network(image)
        real = (logits * one_hot).sum(1)
        other = (logits - 1e4 * one_hot).amax(1)
        distance = (image - original).square().sum((1, 2, 3))
        loss = distance.sum() + (const * (real - other + confidence).relu()).sum()
        return loss, image.detach(), distance.detach(), (other > real + confidence).detach()

    @compiled
    def closer(best, nearest, image, distance, fooled):
        better = fooled & (distance < nearest)
        best = torch.where(better[:, None, None, None], image, best)
        return best, torch.where(better, distance, nearest)

    def descend(const, best, nearest, steps):
        """Adam at given constants; the best images, their distances, and who was ever fooled."""
        delta = torch.zeros_like(images).requires_grad_()
        optimizer = torch.optim.Adam([delta], parameters["learning_rate"], fused=True)
        found = torch.zeros_like(labels, dtype=torch.bool)
        for _ in range(steps):
            loss, image, distance, fooled = objective(delta, const, start, original, one_hot)
            (delta.grad,) = torch.autograd.grad(loss, delta)
            optimizer.step()
            with torch.no_grad():
                best, nearest = closer(best, nearest, image, distance, fooled)
            found |= fooled
        return best, nearest, found

    def search(rounds, steps):
        const = torch.full_like(images[:, 0, 0, 0], parameters["initial_const"])
        lower, upper = torch.zeros_like(const), torch.full_like(const, torch.inf)
        best, nearest = images, torch.full_like(const, torch.inf)
        for _ in range(rounds):
            best, nearest, found = descend(const, best, nearest, steps)
            upper = torch.where(found, torch.minimum(upper, const), upper)
            lower = torch.where(found, lower, torch.maximum(lower, const))
            grown = torch.where(found, const, 10 * const)
            const = torch.where(upper.isfinite(), (lower + upper) / 2, grown)
        return best

    rounds, steps = parameters["binary_search_steps"], parameters["max_iterations"]
    return lambda: search(1, 1), lambda: search(rounds, steps)


ATTACKS = {
    "fgsm": signed_steps,
    "bim": signed_steps,
    "pgd": functools.partial(signed_steps, random_start=True),
    "cw": carlini_wagner,
}


class CompiledSystem(pytorch_networks.PyTorchSystem):
    """Compiled attacks on the workload's ensemble.

    Args:
      backend: of `torch.compile`.
      *args, **kwargs: see `PyTorchSystem`.
    """

    def __init__(self, *args, backend: str, **kwargs):
        super().__init__(*args, **kwargs)
        # One graph for tensors of fixed shapes; anything that does not fit into it is an error.
        options = dict(fullgraph=True, dynamic=False, backend=backend)
        self._compiled = functools.partial(torch.compile, **options)

    @contextlib.contextmanager
    def attack(self, name, parameters, images, labels):
        """See `protocol.System`."""
        if parameters.get("abort_early"):
            raise protocol.Unavailable("the loops here do not abort early")
        check_compiler(self._compiled)
        torch.manual_seed(parameters.get("seed", 0))
        given = self.to_torch(images), torch.from_numpy(labels)
        compile_all, run = ATTACKS[name](self._compiled, self.network, parameters, *given)
        compile_all()
        try:
            yield lambda: run().permute(0, 2, 3, 1).numpy()
        finally:
            torch.compiler.reset()

    def environment(self):
        """See `protocol.System`."""
        found = super().environment()
        found["versions"]["c++"] = _compiler()
        return found


def _compiler():
    """What the C++ compiler says of itself; None if there is none."""
    program = shutil.which(os.environ.get("CXX", "g++"))
    if program is None:
        return None
    told = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True, check=False)
    return told.stdout.split("\n")[0]


def main():
    """Serve the compiled attacks."""
    parser = protocol.parser(__doc__.splitlines()[0])
    pytorch_networks.define_memory_format(parser)
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    chosen = vars(parser.parse_args())
    path = chosen.pop("workload")
    # Compiled code of earlier processes would make some compilations look short, and an idle pool
    # of compiling processes would disturb the other systems.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        protocol.serve(lambda workload: CompiledSystem(workload, **chosen), path)


if __name__ == "__main__":
    main()
