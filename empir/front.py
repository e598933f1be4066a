"""What `import empir` offers: datasets and ensembles by name, ready to be used.

    import empir

    data = empir.load_dataset("mnist", data_dir="data")
    ensemble = empir.load_ensemble("mnist")
    accuracy = (ensemble.predict(data.images).decision == data.labels).mean()
"""

import os
from typing import Optional, Sequence, Union

from empir.data import DATASETS, Dataset
from empir.errors import EmpirError
from empir.experiments import experiment
from empir.models.specs import MemberSpec
from empir.nn import architecture
from empir.records import clone


def load_dataset(
    name: str, data_dir: Optional[str] = None, split: str = "test", **options
) -> Dataset:
    """The images and labels of a dataset.

    Args:
      name: of `empir.data.DATASETS`: "mnist", "cifar10", "imagenet" or one that was registered.
      data_dir: the folder of its files; None = where its loader looks without one.
      split: "train" or "test".
      **options: others of the dataset's loader, such as sample=True for the embedded images.

    Raises:
      EmpirError: if there is no dataset of that name.
      DataError: if its files are missing or damaged.
    """
    if name not in DATASETS:
        raise EmpirError(f"dataset {name!r}: choose from {', '.join(DATASETS)}")
    return DATASETS[name].open(split, data_dir, **options)


def load_ensemble(
    dataset: str,
    members: Union[None, str, Sequence[str]] = None,
    combine: str = "mean_logits",
    network: Optional[str] = None,
    **options,
):
    """An ensemble in a graph and a session of its own, so that `ensemble.predict(images)` works.

    Args:
      dataset: what it classifies, as of `load_dataset`.
      members: "PRECISION:CHECKPOINT,...", or a sequence of such texts without commas, for example
        "w2a4:runs/low,fp:runs/full". None = the dataset's ensemble that comes with the repository.
      combine: decision rule: "mean_logits", "mean_probs" or "vote".
      network: name of the members' network; None = the dataset's.
      **options: others of `empir.models.loading.load_member`.

    Returns:
      An `empir.models.ensemble.Ensemble`. Its attribute `session` holds the weights.

    Raises:
      EmpirError: for an unknown name or rule, or a text that is not PRECISION:CHECKPOINT.
      CheckpointError: if a checkpoint is missing, damaged, or of another network.
    """
    chosen = experiment(dataset)
    built = architecture(network or chosen.architecture)
    specs = _shipped(chosen) if members is None else _listed(members)

    from empir import runtime
    from empir.models.ensemble import Ensemble
    from empir.models.loading import load_member
    from empir.runtime import tf

    session = runtime.session(tf.Graph(), operations=1)
    with session.graph.as_default(), session.as_default():
        loaded = [
            load_member(built, spec.precision, spec.path, session, f"model{number}", **options)
            for number, spec in enumerate(specs, 1)
        ]
        ensemble = Ensemble(loaded, combine)
    ensemble.session = session
    return ensemble


def _shipped(chosen):
    instead = 'members="PRECISION:CHECKPOINT,..."'
    folder = clone.shipped(os.path.join("checkpoints", chosen.dataset), instead)
    return [MemberSpec(precision, os.path.join(folder, name)) for name, precision in chosen.members]


def _listed(members):
    texts = members.split(",") if isinstance(members, str) else members
    return [MemberSpec.parse(text, "members") for text in texts]
