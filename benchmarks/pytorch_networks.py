"""A workload's ensemble in PyTorch, for the programs that attack it there.

The networks are those of exported ensembles (empir/export/pytorch_model.py). Here their weights are
the latent ones, which PyTorch quantizes itself. The environment is that of
requirements-pytorch.txt; everything runs on the processor.
"""

import platform
from importlib.metadata import version

import numpy as np
import torch

from benchmarks import protocol
from empir.export import pytorch, pytorch_model

#: Images per pass where there is no gradient.
BATCH = pytorch_model.BATCH
MEMORY_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


def ensemble(
    workload: protocol.Workload, combine: str = "mean_logits", reference: int = 0
) -> pytorch_model.Ensemble:
    """The ensemble of a workload, with frozen weights.

    Args:
      workload: holds the weights and bits.
      combine, reference: see `pytorch_model.Ensemble`.
    """
    name = workload.architecture
    _, quantized = pytorch_model.NETWORKS[name]
    members = [
        {"nb_filters": arrays["conv1/kernel"].shape[-1], "layers": dict.fromkeys(quantized, bits)}
        for arrays, bits in zip(workload.weights, workload.members)
    ]
    config = dict(format=1, architecture=name, combine=combine, reference=reference)
    network = pytorch_model.Ensemble(dict(config, members=members))
    tensors = {
        f"networks.{number}.{pytorch.name_of(own)}": torch.from_numpy(
            np.array(pytorch.to_pytorch(name, own, array))
        )
        for number, arrays in enumerate(workload.weights)
        for own, array in arrays.items()
    }
    network.load_state_dict(tensors, strict=False)  # without levels, which eval() computes
    return network.eval().requires_grad_(False)


def define_memory_format(parser):
    """Add --memory_format to the command line of a worker, see `protocol.parser`."""
    parser.add_argument("--memory_format", choices=MEMORY_FORMATS, default="contiguous")


class PyTorchSystem(protocol.System):
    """The ensemble of a workload in PyTorch.

    Args:
      workload: the members and their weights.
      threads: number of threads that PyTorch computes with.
      memory_format: key of `MEMORY_FORMATS`.
      **rule: combine and reference, see `ensemble`.

    Attributes:
      packages: names of the packages whose versions belong into a record.
      workload: as given.
      network: the `pytorch_model.Ensemble`.
    """

    packages = ("torch", "numpy")

    def __init__(
        self, workload: protocol.Workload, threads: int, memory_format="contiguous", **rule
    ):
        torch.set_num_threads(threads)
        self.workload = workload
        self._memory_format = MEMORY_FORMATS[memory_format]
        self.network = self.arrange(ensemble(workload, **rule))

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
            return torch.cat(
                [self.network.members(part).mean(1) for part in self.batches(images)]
            ).numpy()

    def environment(self):
        """See `protocol.System`."""
        versions = {name: version(name) for name in self.packages}
        versions["python"] = platform.python_version()
        return {"versions": versions, "threads": torch.get_num_threads()}
