"""An ensemble as the export formats read it: what its networks are, and their weights as arrays."""

import os
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

import numpy as np

from empir.errors import EmpirError
from empir.experiments import Experiment
from empir.models import checkpoints
from empir.nn import Architecture, architecture, weights
from empir.nn.precision import Precision


@dataclass(frozen=True)
class SourceMember:
    """A member of an ensemble.

    Attributes:
      layers: the precision of each layer that a network of this architecture can quantize.
      checkpoint: where its weights came from, as the user named it; None = they were trained here.
      sha256: digest of its weights, see `empir.models.checkpoint_files.digest`.
      nb_filters: width of the network.
      latent: the weights as a checkpoint holds them, in TensorFlow's layout: our name
        ("conv1/kernel", [height, width, in, out]) -> float32 array.
      quantized: the kernels that the network computes with where it quantizes them, by the same
        names.
    """

    layers: Dict[str, Precision]
    checkpoint: Optional[str]
    sha256: str
    nb_filters: int
    latent: Dict[str, np.ndarray]
    quantized: Dict[str, np.ndarray]

    @property
    def precision(self) -> str:
        """As a flag says it: "w2a4", or "w2a4/w2a2/fp"."""
        return checkpoints.bits(self.layers.values())


@dataclass(frozen=True)
class Source:
    """An ensemble as plain data.

    Attributes:
      experiment: the dataset that it classifies, with the members' network.
      combine: the decision rule.
      temperature: factor on the members' logits inside the softmax of mean_probs.
      reference: index of the member that decides the ties of a vote.
      members: its networks.
    """

    experiment: Experiment
    combine: str
    reference: int
    members: Tuple[SourceMember, ...]
    temperature: float = 1.0

    @property
    def network(self) -> Architecture:
        """The architecture of the members."""
        return architecture(self.experiment.architecture)


def read(ensemble, experiment: Experiment, session=None) -> Source:
    """The source of an ensemble whose weights its session holds.

    Args:
      ensemble: an ensemble of `empir.front.load_ensemble`.
      experiment: what it classifies; its architecture is that of the members.
      session: holds the weights; None = the ensemble's own session.

    Raises:
      EmpirError: for an ensemble that draws at random.
    """
    if ensemble.draws:
        raise EmpirError(
            "a network that draws at random (stochastic rounding, MNISTconvRand) cannot be exported"
        )
    network = architecture(experiment.architecture)
    return Source(
        experiment=experiment,
        combine=ensemble.combine,
        reference=ensemble.reference,
        members=tuple(
            _member(member, network, session or ensemble.session) for member in ensemble.members
        ),
        temperature=ensemble.temperature,
    )


def _member(member, network, session):
    kernels = {
        f"{layer.name}/kernel": layer.cached_kernel
        for layer in member.model.layers
        if getattr(layer, "cached_kernel", None) is not None
    }
    latent, quantized = session.run([weights(member.model), kernels])
    return SourceMember(
        layers=dict(zip(network.quantized_layers, member.precisions)),
        checkpoint=member.path and os.path.normpath(member.path),
        sha256=member.sha256,
        nb_filters=member.nb_filters,
        latent=latent,
        quantized=quantized,
    )
