"""What `import empir` offers: datasets and ensembles by name, and their evaluation.

    import empir

    data = empir.load_dataset("mnist", data_dir="data").subset(100)
    ensemble = empir.load_ensemble("mnist", combine="vote")
    result = empir.evaluate(ensemble, data, threat=empir.Threat("linf", 0.1))
    print(result.report())
"""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from empir import published
from empir.data import DATASETS, OWN, Dataset, check
from empir.errors import EmpirError
from empir.evaluation.threat import Threat
from empir.experiments import EXPERIMENTS, PROTOCOLS, experiment
from empir.models.checkpoints import MemberSpec
from empir.nn import architecture
from empir.runtime import DEFAULT_SEED

if TYPE_CHECKING:
    from empir.evaluation.specs import AttackSpec


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
    runtime: str = "tensorflow",
    **options,
):
    """An ensemble in a graph and a session of its own, so that `ensemble.predict(images)` works.

    Args:
      dataset: what it classifies, as of `load_dataset`.
      members: "PRECISION:CHECKPOINT,...", or a sequence of such texts without commas, for example
        "w2a4:runs/low,fp:runs/full". None = the dataset's ensemble that comes with the repository;
        outside of a clone the variable EMPIR_WEIGHTS says where it is (docs/faq.md).
      combine: decision rule: "mean_logits", "mean_probs" or "vote".
      network: name of the members' network; None = the dataset's.
      runtime: "onnx" computes decisions and logits of images by ONNX Runtime, several times as fast
        if most members are quantized to at most 8 bits; "tensorflow" does not. Gradients are
        TensorFlow's.
      **options: others of `empir.models.member.load_members`.

    Returns:
      An `empir.models.ensemble.Ensemble`. Its attribute `session` holds the weights.

    Raises:
      EmpirError: for an unknown name or rule, a text that is not PRECISION:CHECKPOINT, or a runtime
        that is not installed or cannot compute the networks.
      CheckpointError: if a checkpoint is missing, damaged, or of another network.
    """
    chosen = experiment(dataset)
    if network is not None and members is None:
        raise EmpirError(f"network={network!r} needs members: the shipped ones are of another")
    built = architecture(network or chosen.architecture)
    specs = _shipped(chosen) if members is None else _listed(members)

    from empir import export
    from empir.models.ensemble import Ensemble
    from empir.models.member import load_members
    from empir.runtime import session as new_session
    from empir.runtime import tf

    export.check_runtime(runtime)
    session = new_session(tf.Graph(), operations=1)
    with session.graph.as_default(), session.as_default():
        ensemble = Ensemble(load_members(built, specs, session, **options), combine)
    ensemble.session = session
    if runtime == "onnx":
        export.attach_onnx(ensemble, session, dataset, built.name)
    given = dict(options, combine=combine, network=network, runtime=runtime)
    ensemble.reopen = lambda: load_ensemble(dataset, members, **given)
    return ensemble


def _shipped(chosen):
    instead = 'members="PRECISION:CHECKPOINT,..."'
    folder = published.shipped(os.path.join("checkpoints", chosen.dataset), instead)
    return [MemberSpec(precision, os.path.join(folder, name)) for name, precision in chosen.members]


def _listed(members):
    texts = members.split(",") if isinstance(members, str) else members
    return [MemberSpec.parse(text, "members") for text in texts]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
      record: as in the result.json of `empir robustness`.
      correct: images that are classified correctly, clean and under every attack; bool [n].
      clean: the decisions on the clean images, int64 [n].
      clean_members: the same of each member, int64 [n, members].
      attacks: for each attack by name, arrays of the m images that it attacked: "row", their
        numbers; "success", bool; "decision" and "members", of the adversarial images; "l2" and
        "linf", their distances; "adversarial", the images.
    """

    record: dict
    correct: np.ndarray
    clean: np.ndarray
    clean_members: np.ndarray
    attacks: Mapping[str, dict]
    _data: Dataset
    _result: Any
    _temporary: Any = None

    @property
    def checks(self) -> list:
        """The checks: for each a dict of its "title", whether it "passed", and the "reason"."""
        return self.record["verdicts"]

    def report(self) -> str:
        """The report as text, with a row for each attack."""
        from empir.report import robustness

        return robustness.terminal(self.record)

    def save(self, folder: str):
        """Write the record, the images and the report into a new folder, or an empty one.

        Raises:
          EmpirError: if the folder holds something, or cannot be written.
        """
        from empir.records import runs
        from empir.report import robustness

        with runs.new_folder(folder) as unfinished:
            os.rmdir(unfinished)
            shutil.copytree(self._result.folder, unfinished)
            robustness.write(self._result, self._data, unfinished)


class _Arrays(Mapping[str, dict]):
    """Arrays of the attacks of a folder, read when they are asked for."""

    def __init__(self, folder, names):
        self._folder, self._names = folder, names

    def __getitem__(self, name):
        from empir.evaluation.storage import arrays

        if name not in self._names:
            raise KeyError(name)
        return arrays(os.path.join(self._folder, name))

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)


def evaluate(
    model,
    images: Union[Dataset, np.ndarray],
    labels: Optional[np.ndarray] = None,
    *,
    threat: Threat,
    suite: Union[str, Sequence["AttackSpec"]] = "adaptive",
    checks: bool = True,
    out: Optional[str] = None,
    seed: int = DEFAULT_SEED,
    batch_size: int = 100,
    clip_range: Tuple[float, float] = (0.0, 1.0),
    progress: bool = True,
) -> Evaluation:
    """Attack a model with a suite of attacks; the worst case counts for each image.

    Args:
      model: an ensemble of `load_ensemble`, or an `Ensemble` with a `session` for its weights.
      images: a dataset, or float32 [n, height, width, channels] in `clip_range`.
      labels: int [n], true classes of the images; a dataset has its own.
      threat: norm and radius that adversarial images must keep.
      suite: "adaptive", the suite of `empir robustness`. "paper" or "whitebox": the four attacks of
        the paper's table under that protocol, which also says the decision rule. Or
        `AttackSpec`s, in the order in which they are run.
      checks: make the checks, and measure the curves that they need; only for "adaptive".
      out: folder of the run; the same call goes on where a killed one stopped. None keeps it in a
        temporary folder as long as the result lives.
      seed: of everything random.
      batch_size: images of a graph call; it changes results by rounding only.
      clip_range: lowest and highest value of an image, if `images` is an array.
      progress: show progress bars.

    Raises:
      EmpirError: for a value out of range, an unknown suite, or a model without a session.
      ResumeError: if `out` holds another run.
    """
    from empir import runtime
    from empir.evaluation import graph
    from empir.evaluation import suite as runner

    protocol = _protocol(suite)
    if model.session is None:
        raise EmpirError("the model has no session: load it with empir.load_ensemble")
    data = _dataset(model, images, labels, clip_range)
    setting = graph.Setting(
        open=lambda: _opened(model, protocol),
        data=data,
        threat=threat,
        seed=seed,
        batch_size=min(batch_size, len(data.labels)),
        options={} if model.runtime is None else {"runtime": "onnx"},
        shares=runtime.share_count(),
    )
    specs = None if suite == "adaptive" else _table(data, threat) if protocol else tuple(suite)
    temporary = None
    if out is None:
        temporary = tempfile.TemporaryDirectory()
        out = os.path.join(temporary.name, "run")
    result = runner.run(setting, out, specs, progress=progress, analyses=checks and specs is None)
    return _evaluation(result, data, temporary)


def _evaluation(result, data, temporary):
    return Evaluation(
        record=result.record,
        correct=result.correct,
        clean=result.clean["decision"],
        clean_members=result.clean["members"],
        attacks=_Arrays(result.folder, [row["name"] for row in result.record["trials"]]),
        _data=data,
        _result=result,
        _temporary=temporary,
    )


def _protocol(suite):
    """The protocol that a suite's name means; None if it means none."""
    if not isinstance(suite, str) or suite == "adaptive":
        return None
    if suite not in PROTOCOLS:
        raise EmpirError(f"suite={suite!r}: choose from adaptive, {', '.join(PROTOCOLS)}")
    return PROTOCOLS[suite]


@contextlib.contextmanager
def _opened(model, protocol):
    """`Networks` of a model: loaded anew if that is known how, else as they are."""
    from empir.evaluation.graph import Networks
    from empir.models.ensemble import Ensemble

    fresh = model.reopen() if model.reopen else model
    session = fresh.session
    try:
        with session.graph.as_default(), session.as_default():
            ensemble = fresh
            if protocol is not None:
                rule = protocol.combine, protocol.attack_target
                ensemble = Ensemble(fresh.members, *rule, fresh.temperature)
                ensemble.runtime = fresh.runtime
            yield Networks(session, ensemble)
    finally:
        if fresh is not model:
            session.close()


def _table(data, threat):
    """The attacks of the paper's table at a radius, with steps in proportion to it."""
    from empir.evaluation import suites

    known = EXPERIMENTS.get(data.name)
    share = known.eps_iter / known.eps if known else 0.1
    return suites.table(eps_iter=share * threat.eps)


def _dataset(model, images, labels, clip_range):
    """The images as a dataset, if they are none."""
    if isinstance(images, Dataset):
        return images
    if labels is None:
        raise EmpirError("labels are missing: give the true classes of the images, int [n]")
    images, labels = np.asarray(images), np.asarray(labels, np.int64)
    classes = model.predict(images[:1]).logits.shape[-1]
    return check(Dataset(OWN, "test", images, labels, classes, clip_range, "the given arrays"))
