"""Workloads of networks with trained weights, which TensorFlow reads from checkpoints."""

from benchmarks.protocol import Workload
from empir.data import Dataset
from empir.errors import EmpirError
from empir.nn import Architecture, weights

BITS = ("weight_bits", "activation_bits")


def make_workload(network: Architecture, members, data: Dataset, session) -> Workload:
    """The workload of members, whose weights the session holds, and all images of a dataset.

    Raises:
      EmpirError: for a member with other bits in one layer than in another; the PyTorch networks
        have the same in all layers.
    """
    bits = []
    for member in members:
        if len(set(member.precisions)) > 1:
            raise EmpirError(f"{member.path} has bits per layer: other systems do not")
        bits.append({key: getattr(member.precisions[0], key) for key in BITS})
    arrays = [session.run(weights(member.model)) for member in members]
    return Workload(network.name, data.images[:], data.labels, bits, arrays)
