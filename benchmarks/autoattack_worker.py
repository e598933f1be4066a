"""The PyTorch side of `benchmarks.autoattack`: networks of the same weights, and AutoAttack.

    python benchmarks/autoattack_worker.py WORKLOAD

Runs as a script in the environment of requirements-pytorch.txt and answers as `protocol` says:

    {"do": "decide"}            {"decisions": [7, 2, ...]}, classes of the workload's images;
                                with "images": PATH of that .npy file's, float32 [n, h, w, c]
    {"do": "autoattack", "attack": "apgd-t", "rows": [0, 5, ...], "norm": "Linf", "eps": 0.1,
     "seed": 0, "out": PATH}    {"seconds": 2.1, "decisions": [...], "warnings": {"...": 1}}; the
                                images that it leaves are written to PATH, float32 [n, h, w, c] .npy

AutoAttack is the package pyautoattack, which RobustBench, a project of AutoAttack's authors,
requires: their code. The attacks are those of its version "standard", called one at a time in the
way of its own run_standard_evaluation_individual. Every batch starts from the seed, so that
batches in turn give what one run over all images gives.
"""

import collections
import logging
import os
import platform
import re
import sys
import time

# OpenMP's threads wait for each other by spinning. On processors that others use too, as long as
# they do by default makes them several times as slow; this long is as fast where nobody does.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

import numpy as np  # noqa: E402
import torch  # noqa: E402

try:
    from pyautoattack import AutoAttack
except ImportError as error:
    sys.exit("%s: scripts/pytorch.sh installs what requirements-pytorch.txt lists" % error)

import protocol  # noqa: E402
import pytorch_worker  # noqa: E402

BATCH = 500  # images per pass where there is no gradient


class Warnings(logging.Handler):
    """Counts what AutoAttack's own checks warn of; `counts`: text, numbers as N -> how often."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.counts = collections.Counter()

    def emit(self, record):
        """See `logging.Handler`."""
        first = record.getMessage().split("!")[0]
        self.counts[re.sub(r"\d+(\.\d+)?", "N", first)] += 1


class Twin(protocol.System):
    """The workload's ensemble in PyTorch, on the processor."""

    def __init__(self, workload: protocol.Workload, threads: int):
        torch.set_num_threads(threads)
        count = range(len(workload.members))
        members = [pytorch_worker.member(workload, number, trainable=False) for number in count]
        self.network = pytorch_worker.Ensemble(members).eval()

    def logits(self, images):
        """See `protocol.System`."""
        starts = range(0, len(images), BATCH)
        with torch.no_grad():
            parts = [self.network(to_torch(images[start : start + BATCH])) for start in starts]
        return torch.cat(parts).numpy()

    def environment(self):
        """See `protocol.System`."""
        from importlib.metadata import version

        versions = {name: version(name) for name in ("torch", "pyautoattack", "numpy")}
        versions["python"] = platform.python_version()
        return {"versions": versions, "threads": torch.get_num_threads()}


def to_torch(images: np.ndarray) -> torch.Tensor:
    """Images float32 [n, h, w, c] as a tensor [n, c, h, w]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


class TwinWorker(protocol.Worker):
    """Answers the commands about a `Twin`."""

    def __init__(self, system: Twin, workload: protocol.Workload):
        super().__init__(system, workload)
        self._commands.update(decide=self._decide, autoattack=self._autoattack)
        self._warnings = Warnings()
        logging.getLogger("auto-attack").addHandler(self._warnings)

    def _decide(self, images=None):
        images = self._workload.images if images is None else np.load(images)
        return {"decisions": self._system.logits(images).argmax(axis=1).tolist()}

    def _autoattack(self, attack, rows, norm, eps, seed, out, steps=None, queries=None):
        """`steps` and `queries` are for tests; with either this is not the standard version."""
        adversary = AutoAttack(self._system.network, norm=norm, eps=eps, seed=seed)
        if attack not in adversary.attacks_to_run:
            known = ", ".join(adversary.attacks_to_run)
            raise ValueError("attack %r: choose from %s" % (attack, known))
        adversary.attacks_to_run = [attack]
        for part in (adversary.apgd, adversary.apgd_targeted, adversary.fab):
            part.n_iter = steps or part.n_iter
        adversary.square.n_queries = queries or adversary.square.n_queries
        images = to_torch(self._workload.images[rows])
        labels = torch.from_numpy(self._workload.labels[rows])
        self._warnings.counts.clear()
        began = time.perf_counter()
        found, decisions = adversary.run_standard_evaluation(images, labels, batch_size=len(rows))
        seconds = time.perf_counter() - began
        np.save(out, found.permute(0, 2, 3, 1).numpy())
        return {
            "seconds": seconds,
            "decisions": decisions.tolist(),
            "warnings": dict(self._warnings.counts),
        }


def main():
    """Serve the workload that the command line names."""
    chosen = protocol.parser(__doc__.splitlines()[0]).parse_args()
    protocol.serve(lambda workload: Twin(workload, chosen.threads), chosen.workload, TwinWorker)


if __name__ == "__main__":
    main()
