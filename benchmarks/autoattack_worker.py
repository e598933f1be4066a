"""AutoAttack on the paper's networks in PyTorch: the worker of `benchmarks.autoattack`.

    python -m benchmarks.autoattack_worker WORKLOAD --combine=vote --reference=2

Runs in the clone, in the environment of requirements-pytorch.txt. Beside the commands of `protocol`
it answers:

    {"do": "decide"}            {"decisions": [7, 2, ...]}, classes of the workload's images under
                                the decision rule; with "images": PATH of the images in that .npy,
                                float32 [n, h, w, c]
    {"do": "autoattack", "attack": "apgd-t", "rows": [0, 5, ...], "norm": "Linf", "eps": 0.1,
     "seed": 0, "out": PATH}    {"seconds": 2.1, "decisions": [...], "warnings": {"...": 1}}; the
                                attacked images are written to PATH, float32 [n, h, w, c] .npy

AutoAttack is the package pyautoattack, which RobustBench, a project of AutoAttack's authors,
requires: it is their code. The attacks are those of its version "standard", called one at a time,
as its own run_standard_evaluation_individual does. Every batch starts from the seed, so that the
batches together give the same result as one run over all images. What it attacks is the view
"followed" of `pytorch_model.View`, and the decision rule itself judges the images that it gives.
"""

import collections
import logging
import re
import sys
import time

import numpy as np
import torch

try:
    from pyautoattack import AutoAttack
except ImportError as error:
    sys.exit(f"{error}: scripts/pytorch.sh installs what requirements-pytorch.txt lists")

from benchmarks import protocol, pytorch_networks
from empir.export import pytorch_model


class WarningCounter(logging.Handler):
    """Counts the warnings of AutoAttack's own checks.

    Attributes:
      counts: text of a warning, with N for its numbers -> how often it came.
    """

    def __init__(self):
        super().__init__(logging.WARNING)
        self.counts = collections.Counter()

    def emit(self, record):
        """See `logging.Handler`."""
        first = record.getMessage().split("!")[0]
        self.counts[re.sub(r"\d+(\.\d+)?", "N", first)] += 1


class AttackedSystem(pytorch_networks.PyTorchSystem):
    """The ensemble that AutoAttack attacks.

    Args:
      workload, threads: see `pytorch_networks.PyTorchSystem`.
      combine, reference: the decision rule, see `pytorch_model.Ensemble`.

    Attributes:
      followed: the view that AutoAttack is given.
    """

    packages = ("torch", "pyautoattack", "numpy")

    def __init__(self, workload: protocol.Workload, threads: int, combine: str, reference: int):
        super().__init__(workload, threads, combine=combine, reference=reference)
        self.followed = self.network.view("followed", self.to_torch(workload.images))

    def decisions(self, images: np.ndarray) -> list:
        """Classes under the decision rule of float32 [n, h, w, c]."""
        decide = self.network.decision
        with torch.no_grad():
            return [label for part in self.batches(images) for label in decide(part).tolist()]


class AutoAttackWorker(protocol.Worker):
    """Answers the commands about an `AttackedSystem`."""

    def __init__(self, system: AttackedSystem, workload: protocol.Workload):
        super().__init__(system, workload)
        self._warnings = WarningCounter()
        logging.getLogger("auto-attack").addHandler(self._warnings)

    def commands(self):
        """See `protocol.Worker`."""
        return dict(super().commands(), decide=self._decide, autoattack=self._autoattack)

    def _decide(self, images=None):
        images = self.workload.images if images is None else np.load(images)
        return {"decisions": self.system.decisions(images)}

    def _autoattack(self, *, attack, rows, norm, eps, seed, out, steps=None, queries=None):
        """`steps` and `queries` are for tests; with either it is not the standard version."""
        adversary = AutoAttack(self.system.followed, norm=norm, eps=eps, seed=seed)
        if attack not in adversary.attacks_to_run:
            known = ", ".join(adversary.attacks_to_run)
            raise ValueError(f"attack {attack!r}: choose from {known}")
        adversary.attacks_to_run = [attack]
        for part in (adversary.apgd, adversary.apgd_targeted, adversary.fab):
            part.n_iter = steps or part.n_iter
        adversary.square.n_queries = queries or adversary.square.n_queries
        images = self.system.to_torch(self.workload.images[rows])
        labels = torch.from_numpy(self.workload.labels[rows])
        self._warnings.counts.clear()
        began = time.perf_counter()
        found, _ = adversary.run_standard_evaluation(images, labels, batch_size=len(rows))
        seconds = time.perf_counter() - began
        found = found.permute(0, 2, 3, 1).numpy()
        np.save(out, found)
        return {
            "seconds": seconds,
            "decisions": self.system.decisions(found),
            "warnings": dict(self._warnings.counts),
        }


def main():
    """Serve the workload that the command line names."""
    parser = protocol.parser(__doc__.splitlines()[0])
    parser.add_argument("--combine", choices=sorted(pytorch_model.DECISIONS), required=True)
    parser.add_argument("--reference", type=int, required=True, help="member that decides ties")
    chosen = vars(parser.parse_args())
    path = chosen.pop("workload")
    protocol.serve(lambda workload: AttackedSystem(workload, **chosen), path, AutoAttackWorker)


if __name__ == "__main__":
    main()
