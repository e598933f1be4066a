"""Where the attacked networks come from: released checkpoints or Keras models, as an ensemble."""

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence, Tuple

from empir import published, runtime
from empir.data import Dataset
from empir.errors import EmpirError
from empir.evaluation.threat import Threat
from empir.experiments import Experiment, experiment
from empir.models.checkpoints import MemberSpec
from empir.nn import architecture
from empir.nn.precision import FULL, per_layer

if TYPE_CHECKING:
    from empir.evaluation.graph import Setting

#: Folder of the network outside a dataset's shipped ensembles: another seed, nothing shared.
INDEPENDENT = "independent"


@dataclass(frozen=True)
class Source:
    """Where the networks of an evaluation come from.

    Attributes:
      architecture: name of the members' network.
      members: `MemberSpec`s; empty if `models` are the members.
      models: files of Keras models.
      trust: whether these may hold code, see `keras_member.load_keras`.
      outside: `MemberSpec`s of networks that attacks are transferred from.
      combine, attack_target: decision rule, and what attacks differentiate by default.
      temperature: see `ensemble.Ensemble`.
      options: arguments of the members' builder that differ from its defaults; without
        `nb_filters` each member has the width of its checkpoint, as the networks outside have.
      arrays: weights of a single member that no file holds, under their released names.
      engine: see `member.load_members`.
      seed: of networks that draw at random.
      prepare: called with each ensemble and its session before anything is computed, to attach
        another runtime, see `Ensemble.runtime`; can be pickled. None changes nothing.
    """

    architecture: str
    members: Sequence[MemberSpec] = ()
    models: Sequence[str] = ()
    outside: Sequence[MemberSpec] = ()
    combine: str = "mean_logits"
    attack_target: str = "decision"
    temperature: float = 1.0
    options: dict = field(default_factory=dict)
    arrays: Optional[dict] = None
    engine: Optional[bool] = None
    seed: int = runtime.DEFAULT_SEED
    trust: bool = False
    prepare: Optional[Callable[[Any, Any], None]] = None

    @contextlib.contextmanager
    def open(self, data: Dataset, operations: int = 1):
        """`graph.Networks` in a graph and a session of its own, which are the default ones.

        Args:
          data: images that they are for.
          operations: see `runtime.session`.

        Raises:
          CheckpointError: if a network cannot be loaded, or is for other images than `data`'s.
        """
        from empir.evaluation.graph import Networks
        from empir.models.ensemble import Ensemble
        from empir.models.keras_member import load_keras
        from empir.runtime import tf

        with tf.Graph().as_default(), runtime.session(operations=operations) as session:
            tf.set_random_seed(self.seed)
            members = [load_keras(path, data, self.trust) for path in self.models]
            members += self._members(session)
            outside = self._load(self.outside, session, name="outside")
            rule = self.combine, self.attack_target, self.temperature
            ensemble = Ensemble(members, *rule)
            if self.prepare is not None:
                self.prepare(ensemble, session)
            yield Networks(session, ensemble, outside)

    def setting(self, data: Dataset, threat: Threat, batch_size: int, options: dict) -> "Setting":
        """The setting of a suite of attacks on these networks.

        Args:
          data: images and true labels.
          threat: the threat model.
          batch_size: images per graph call, or the number of images if these are fewer.
          options: how records say that the members were built.
        """
        from empir.evaluation.graph import Setting

        return Setting(
            open=lambda: self.open(data),
            data=data,
            threat=threat,
            seed=self.seed,
            batch_size=min(batch_size, len(data.labels)),
            architecture="Keras" if self.models else self.architecture,
            options=options,
            shares=runtime.share_count(),
        )

    def absolute(self) -> "Source":
        """The same networks by paths that mean the same in any working folder."""

        def path(text):
            return text and os.path.abspath(text)

        def specs(members):
            return tuple(replace(member, path=path(member.path)) for member in members)

        return replace(
            self,
            members=specs(self.members),
            outside=specs(self.outside),
            models=tuple(map(path, self.models)),
        )

    def _members(self, session):
        from empir.models.member import member_from_arrays

        if self.arrays is None:
            return self._load(self.members, session, **self.options)
        network, (spec,) = architecture(self.architecture), self.members
        precisions = per_layer(spec.precision, len(network.quantized_layers))
        own = self.arrays, session, spec.path, self.engine
        return [member_from_arrays(network, precisions, *own, **self.options)]

    def _load(self, specs, session, **options):
        from empir.models.member import load_members

        network = architecture(self.architecture)
        return load_members(network, specs, session, engine=self.engine, **options)


def shipped(chosen: Experiment) -> Tuple[MemberSpec, ...]:
    """The dataset's ensemble in this repository; `EmpirError` if it is not there."""
    instead = "--members=PRECISION:CHECKPOINT,... or --checkpoint=MODEL.h5"
    folder = published.shipped(os.path.join("checkpoints", chosen.dataset), instead)
    return tuple(
        MemberSpec(precision, os.path.join(folder, name)) for name, precision in chosen.members
    )


def independent(chosen: Experiment) -> Tuple[MemberSpec, ...]:
    """The network outside the ensembles in this repository, if there is one of this kind."""
    if chosen.architecture != experiment(chosen.dataset).architecture:
        return ()
    try:
        path = published.shipped(
            os.path.join("checkpoints", INDEPENDENT, chosen.dataset), "--outside"
        )
    except EmpirError:  # `suites.left_out` tells what is missing then
        return ()
    return (MemberSpec(FULL, path),)


def keras_files(paths: Optional[Sequence[str]]) -> Tuple[str, ...]:
    """The files of --checkpoint; `EmpirError` for one that is missing, or if it names none."""
    if paths is not None and not (paths and all(paths)):
        raise EmpirError(
            "--checkpoint=%s has an empty name: name what keras.Model.save wrote" % ",".join(paths)
        )
    for path in paths or ():
        if not os.path.isfile(path):
            raise EmpirError(
                "--checkpoint=%s: no such file; it is what keras.Model.save wrote" % path
            )
    return tuple(paths or ())
