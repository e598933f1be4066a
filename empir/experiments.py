"""The paper's experiments as frozen data: one row per dataset, the protocols, the table's rows."""

from dataclasses import dataclass, replace
from typing import Callable, Optional, Tuple

from empir import attacks
from empir.data import DATASETS, Row
from empir.errors import EmpirError
from empir.nn import architecture
from empir.nn.precision import FULL, Precision


@dataclass(frozen=True)
class Protocol:
    """How the result of an attack is decided, and what the attack differentiates.

    Attributes:
      name: of the protocol; None for a combination that has no name.
      combine: the decision rule.
      attack_target: see `empir.models.ensemble`; None for the adaptive suite, which attacks all.
    """

    name: Optional[str]
    combine: str
    attack_target: Optional[str]


PROTOCOLS = {
    "paper": Protocol("paper", combine="vote", attack_target="released"),
    "whitebox": Protocol("whitebox", combine="mean_logits", attack_target="decision"),
}

#: --protocol of the suite of attacks of `empir robustness`.
ADAPTIVE = "adaptive"
#: Images that it attacks unless told otherwise: it is many attacks.
ADAPTIVE_SAMPLES = 1000

#: Attacks of the paper's table, in its column order.
TABLE_ATTACKS = ("cw", "fgsm", "bim", "pgd")


@dataclass(frozen=True)
class Distilling:
    """Defensive distillation's settings, see `empir.training.objectives.Distillation`."""

    logit_divisor: float
    hard: float
    soft: float


@dataclass(frozen=True)
class Experiment:
    """A dataset with its network, and the defaults of attacks and trainings on it.

    Attributes:
      dataset: name of the dataset in `empir.data.DATASETS`.
      architecture: name of the network.
      random_architecture: that of the network of --rand; None = there is none.
      eps, eps_iter, nb_iter: radius, step and steps of the L-infinity attacks (docs/original.md,
        Attacks).
      cw_iterations: CW's steps.
      attack_batch: images attacked in one graph call, and CW's batch; None = --batch_size
        (docs/original.md, Attacks).
      batch_size, nb_epochs, learning_rate, nb_filters: training defaults (docs/original.md,
        Flags and Training).
      learning_rate_flag: how the original's script calls the rate.
      data_flag: how it calls the folder of the data: "data_dir", or "imagenet_path" for TFRecords.
      nb_samples: how many test images it attacks.
      schedule: `schedule(learning_rate, quantized)` -> `Settings.schedule`.
      adam_epsilon: see `empir.training.Settings`.
      label_smoothing: see `empir.training.Settings`.
      distilling: settings of --distill; None = the original's script has no --distill and no
        --inpgradreg.
      members: the paper's three precisions; a name's folder under checkpoints/<dataset>/.
    """

    dataset: str
    architecture: str
    eps: float
    eps_iter: float
    nb_iter: int
    cw_iterations: int
    attack_batch: Optional[int]
    batch_size: int
    nb_epochs: int
    learning_rate: float
    learning_rate_flag: str
    label_smoothing: float
    nb_filters: int
    seed: int
    members: Tuple[Tuple[str, Precision], ...]
    random_architecture: Optional[str] = None
    distilling: Optional[Distilling] = None
    data_flag: str = "data_dir"
    nb_samples: int = 10000
    schedule: Callable = lambda learning_rate, quantized: ()
    adam_epsilon: float = 1e-8

    @property
    def data(self) -> Row:
        """The row of the dataset."""
        return DATASETS[self.dataset]

    @property
    def title(self) -> str:
        """The dataset's name in texts."""
        return self.data.title

    @property
    def clip_range(self) -> Tuple[float, float]:
        """The lowest and the highest value of an image under attack."""
        return self.data.clip_range


def imagenet_schedule(learning_rate: float, quantized: bool):
    """The original's rates on ImageNet (docs/original.md, Training)."""
    if quantized:
        return ((60, 4e-5), (75, 8e-6))
    return ((30, learning_rate / 10), (60, learning_rate / 100), (80, learning_rate / 1000))


#: Training's epochs, counted from 0, before --adv; and the student's of --distill
#: (docs/original.md, Flags).
DELAY, STUDENT_EPOCHS = 10, 50

EXPERIMENTS = {
    "mnist": Experiment(
        dataset="mnist",
        architecture="MNISTconv",
        random_architecture="MNISTconvRand",
        eps=0.3,
        eps_iter=0.01,
        nb_iter=40,
        cw_iterations=50,
        attack_batch=100,
        batch_size=128,
        nb_epochs=15,
        learning_rate=0.001,
        learning_rate_flag="lr",
        label_smoothing=0.0,
        nb_filters=64,
        seed=1237,
        members=(
            ("model1-w2a4", Precision(2, 4)),
            ("model2-w2a4", Precision(2, 4)),
            ("model3-fp", FULL),
        ),
        distilling=Distilling(logit_divisor=100.0, hard=0.5, soft=0.5),
    ),
    "cifar10": Experiment(
        dataset="cifar10",
        architecture="CIFARconv",
        eps=0.1,
        eps_iter=0.01,
        nb_iter=40,
        cw_iterations=50,
        attack_batch=100,
        batch_size=128,
        nb_epochs=6,
        learning_rate=0.001,
        learning_rate_flag="learning_rate",
        label_smoothing=0.1,
        nb_filters=32,
        seed=1234,
        members=(
            ("model1-w4a2", Precision(4, 2)),
            ("model2-w2a2", Precision(2, 2)),
            ("model3-fp", FULL),
        ),
        distilling=Distilling(logit_divisor=10.0, hard=0.3, soft=0.7),
    ),
    "imagenet": Experiment(
        dataset="imagenet",
        architecture="AlexNet",
        eps=0.1,
        eps_iter=0.01,
        nb_iter=40,
        cw_iterations=50,
        attack_batch=None,
        batch_size=100,
        nb_epochs=6,
        learning_rate=0.001,
        learning_rate_flag="learning_rate",
        label_smoothing=0.0,
        nb_filters=32,
        seed=1234,
        members=(
            ("model1-w2a2", Precision(2, 2)),
            ("model2-w4a4", Precision(4, 4)),
            ("model3-fp", FULL),
        ),
        data_flag="imagenet_path",
        nb_samples=50000,
        schedule=imagenet_schedule,
        adam_epsilon=1e-5,
    ),
}


def experiment(name: str) -> Experiment:
    """The experiment on a dataset of `empir.data.DATASETS`.

    A dataset that is not of the paper has the network and the defaults of the paper's dataset with
    images of its shape, unless its row says otherwise.

    Raises:
      EmpirError: if there is no dataset of that name, or no network for it.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    if name not in DATASETS:
        raise EmpirError(f"dataset {name!r}: choose from {', '.join(DATASETS)}")
    row = DATASETS[name]
    alike = [known for known in EXPERIMENTS.values() if known.data.shape == row.shape]
    if not alike and "architecture" not in row.defaults:
        raise EmpirError(
            f"dataset {name!r}: no network takes images {row.shape}: register it with the "
            "architecture of one that does"
        )
    like = (alike or list(EXPERIMENTS.values()))[0]
    chosen = replace(like, data_flag="data_dir", **dict(row.defaults, dataset=name))
    network = architecture(chosen.architecture)
    taken = (tuple(network.input_shape), network.num_classes)
    if taken != (row.shape, row.num_classes):
        raise EmpirError(
            f"dataset {name!r} has images {row.shape} in {row.num_classes} classes, but "
            f"{network.name} takes images {taken[0]} in {taken[1]}: register it with the "
            "architecture of a network that fits"
        )
    return chosen


def default_parameters(
    chosen: Experiment,
    attack: str,
    batch_size: int,
    clip_range: Optional[Tuple[float, float]] = None,
) -> dict:
    """An attack's full parameters by CleverHans' names, at an experiment's defaults.

    Source: docs/original.md, Attacks.

    Args:
      chosen: the experiment.
      attack: a name of `attacks.TABLE`.
      batch_size: CW's batch.
      clip_range: lowest and highest value of an image; None = those of the dataset.
    """
    settings = {
        "eps": chosen.eps,
        "eps_iter": chosen.eps_iter,
        "nb_iter": chosen.nb_iter,
        "attack_iterations": chosen.cw_iterations,
        "batch_size": batch_size,
        "seed": chosen.seed,
    }
    return attacks.row(attack).given_parameters(clip_range or chosen.clip_range, settings)
