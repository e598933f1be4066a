"""Foolbox's and torchattacks' attacks on the paper's networks, and training, in PyTorch.

    python -m benchmarks.pytorch_worker WORKLOAD --library=foolbox

Runs in the clone, in the environment of requirements-pytorch.txt, and answers as `protocol` says.
"""

import contextlib

import torch
from torch import nn
from torch.nn import functional

from benchmarks import protocol, pytorch_networks


def foolbox_attack(ensemble, name, parameters, images, labels):
    """A function that runs Foolbox's attack, without its `__call__`, which evaluates the result."""
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
            # Where it finds nothing it returns a black image; the other systems the clean one.
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
      protocol.Unavailable: for another range than [0, 1], and where CW searches its constant.
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


class LibrarySystem(pytorch_networks.PyTorchSystem):
    """A library's attacks on the workload's ensemble.

    Args:
      workload, threads, memory_format: see `pytorch_networks.PyTorchSystem`.
      library: key of `LIBRARIES`.
    """

    def __init__(self, workload, library: str, threads: int, memory_format: str):
        super().__init__(workload, threads, memory_format)
        self.packages = ("torch", library, "numpy")
        self.forward_passes = 0
        self._library, self._format_name = library, memory_format
        self.network.register_forward_hook(self._count)

    def _count(self, *_):
        self.forward_passes += 1

    @contextlib.contextmanager
    def attack(self, name, parameters, images, labels):
        """See `protocol.System`."""
        torch.manual_seed(parameters.get("seed", 0))
        run = LIBRARIES[self._library](
            self.network, name, parameters, self.to_torch(images), torch.from_numpy(labels)
        )
        yield lambda: run().permute(0, 2, 3, 1).numpy()

    @contextlib.contextmanager
    def training(self, member, images, labels):
        """See `protocol.System`."""
        network = pytorch_networks.ensemble(self.workload).networks[member]
        network = self.arrange(network.train().requires_grad_(True))
        for weight in network.parameters():
            nn.init.kaiming_normal_(weight)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        images, labels = self.to_torch(images), torch.from_numpy(labels)

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
        found = super().environment()
        found["versions"]["memory_format"] = self._format_name
        return found


def main():
    """Serve the system that the command line names."""
    parser = protocol.parser(__doc__.splitlines()[0], LIBRARIES)
    pytorch_networks.define_memory_format(parser)
    chosen = vars(parser.parse_args())
    path = chosen.pop("workload")
    protocol.serve(lambda workload: LibrarySystem(workload, **chosen), path)


if __name__ == "__main__":
    main()
