"""The study's plan as data: its trainings, its evaluations, and the parts that they belong to."""

import itertools
from dataclasses import dataclass
from typing import Dict, List, Tuple

from empir.errors import EmpirError
from empir.nn.precision import parse

#: The paper's datasets that are here; and the one that takes ImageNet's place, which is CIFAR-10's
#: images as JPEGs (`benchmarks.study.pictures`), with what --dataset calls it.
PAPERS = ("mnist", "cifar10")
PICTURES, PICTURES_FLAG = "cifar10_jpegs", "benchmarks.study.pictures:ROW"
#: Epochs of a training: the original's on MNIST; on CIFAR-10 those of the shipped members, which
#: were chosen by their distance to the released members (docs/results-cifar10.md); of pictures what
#: one core can do within hours, as their number and the width below.
EPOCHS = {"mnist": 15, "cifar10": 28, PICTURES: 12}
#: The precisions of EMPIR's members, in the paper's order.
MEMBERS = {
    "mnist": ("w2a4", "w2a4", "fp"),
    "cifar10": ("w4a2", "w2a2", "fp"),
    PICTURES: ("w2a2", "w4a4", "fp"),
}
#: Width of the AlexNets that learn the pictures; the paper's is 32.
PICTURES_WIDTH = 4
#: Test images of every evaluation, and training images that are made pictures; drawn with each
#: class's share.
IMAGES, PICTURES_TRAINED = 1000, 10000
#: The low precision of ensembles of one precision.
LOW = {"mnist": "w2a4", "cifar10": "w2a2"}
#: Width of the single network whose number of weights is closest to that of three members.
WIDE = {"mnist": 111, "cifar10": 61}
#: Radius of the adaptive suites: where the shipped ensembles are not broken completely.
RADII: Dict[str, Tuple[Tuple[str, str], ...]] = {
    "mnist": (("0.1", "0.1"),),
    "cifar10": (("2-255", "0.00784314"), ("4-255", "0.0156863")),
}
#: Decision rules that the suites of ensembles attack.
SUITE_RULES = ("vote", "mean_logits")
#: Radius of adversarial training, by its name in records, and the step of PGD's seven in it.
DEFENDED = {"mnist": ("0.3", "0.3", "0.1"), "cifar10": ("8-255", "0.0313725", "0.00784314")}
#: Epochs before the first one of adversarial training.
DELAY = 2
#: How many times each member of EMPIR is trained; the first training is that of the shipped one.
TRAININGS = 5
#: How many ensembles of one precision, and how many wide networks, are compared with EMPIR.
COMPARED = 3
BITS = ("1", "2", "4", "8", "32")


def _dataset(name):
    return f"--dataset={PICTURES_FLAG if name == PICTURES else name}"


@dataclass(frozen=True)
class Training:
    """One training of one network.

    Attributes:
      dataset: its name.
      precision: "fp", or bits as in "w2a4".
      seed: of the initial weights and of the order of the images.
      epochs: number of epochs; 0 = `EPOCHS`.
      width: `--nb_filters`; 0 = the network's own.
      defended: whether it is adversarial training, which ends as `adversarial.train` says.
    """

    dataset: str
    precision: str
    seed: int
    epochs: int = 0
    width: int = 0
    defended: bool = False

    @property
    def name(self) -> str:
        """Name of its folder, e.g. "w2a4-seed11"."""
        parts = [self.precision, f"seed{self.seed}"]
        parts += [f"epochs{self.epochs}"] if self.epochs else []
        parts += [f"width{self.width}"] if self.width else []
        parts += [f"pgd-{DEFENDED[self.dataset][0]}"] if self.defended else []
        return "-".join(parts)

    @property
    def shipped(self) -> str:
        """Folder of the shipped member that this training made; "" if it made none."""
        if self.epochs or self.width or self.defended or not 1 <= self.seed <= 3:
            return ""
        if MEMBERS[self.dataset][self.seed - 1] != self.precision:
            return ""
        return f"checkpoints/{self.dataset}/model{self.seed}-{self.precision}"

    def flags(self, epochs: int = 0) -> List[str]:
        """Flags of `empir train`, but for folders; `epochs` = 0 is the training's own number."""
        flags = [_dataset(self.dataset), f"--seed={self.seed}"]
        flags.append(f"--nb_epochs={epochs or self.epochs or EPOCHS[self.dataset]}")
        if self.defended:
            _, eps, step = DEFENDED[self.dataset]
            flags += ["--adv=1", f"--delay={DELAY}", "--nb_iter=7"]
            flags += [f"--adv_eps={eps}", f"--adv_eps_iter={step}"]
        if self.width:
            flags.append(f"--nb_filters={self.width}")
        bits = parse(self.precision)
        if not bits.is_full:
            flags.append("--lowprecision")
            flags += [f"--wbits={bits.weight_bits or 32}", f"--abits={bits.activation_bits or 32}"]
        return flags


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one network or ensemble, by one command.

    Attributes:
      subject: what is evaluated, as in the names of records, e.g. "empir-1".
      members: its members' trainings.
      kind: "table", an attack of the paper's table, or "suite", all adaptive attacks.
      setting: the attack and the protocol of the table ("pgd-paper"), or the suite's radius and the
        decision rule ("0.1-vote"; without the rule for a single network).
    """

    subject: str
    members: Tuple[Training, ...]
    kind: str
    setting: str

    @property
    def dataset(self) -> str:
        """Name of the members' dataset."""
        return self.members[0].dataset

    @property
    def name(self) -> str:
        """Name of its record, e.g. "mnist-empir-1-pgd-paper"."""
        return f"{self.dataset}-{self.subject}-{self.setting}"

    def command(self, folders: List[str], images: int) -> List[str]:
        """Words after `python -m empir`, but for --data_dir and --out.

        Args:
          folders: the members' folders, in their order.
          images: number of test images, drawn with each class's share.
        """
        members = ",".join(
            f"{training.precision}:{folder}" for training, folder in zip(self.members, folders)
        )
        common = [_dataset(self.dataset), f"--members={members}"]
        common += [f"--nb_samples={images}", "--subset=stratified"]
        if self.kind == "suite":
            radius, _, rule = (
                self.setting.rpartition("-") if len(self.members) > 1 else (self.setting, "", "")
            )
            eps = dict((*RADII[self.dataset], DEFENDED[self.dataset][:2]))[radius]
            common += [f"--combine={rule}"] if rule else []
            return ["robustness", f"--eps={eps}", "--noanalyses", *common]
        attack, protocol = self.setting.split("-")
        return ["attack", f"--attack={attack}", f"--protocol={protocol}", "--resume", *common]


#: A training that takes seconds. A test makes it again, and compares the weights' sha256.
PROBE = Training("mnist", "w2a4", seed=1, epochs=1, width=2)


def run_of(dataset: str, run: int) -> Tuple[Training, ...]:
    """EMPIR's three members of a run: 0 = the shipped ones, whose seeds are 1, 2 and 3."""
    return tuple(
        Training(dataset, precision, 10 * run + number)
        for number, precision in enumerate(MEMBERS[dataset], 1)
    )


def _table(subject, members, attacks=("pgd", "fgsm", "bim", "cw")):
    """Attacks of the paper's table.

    Both protocols are the same for a single network, and the protocol `paper` does not exist
    without a full-precision member, whose gradients it follows.
    """
    has_both = len(members) > 1 and any(one.precision == "fp" for one in members)
    protocols = ("paper", "whitebox") if has_both else ("whitebox",)
    for attack, protocol in itertools.product(attacks, protocols):
        yield Evaluation(subject, members, "table", f"{attack}-{protocol}")


def _suites(subject, members, radii=None):
    """All adaptive attacks at each of `radii`, the first ones of `RADII` (None = all)."""
    for radius, _ in RADII[members[0].dataset][:radii]:
        yield from _suite(subject, members, radius)


def _suite(subject, members, radius):
    settings = [f"{radius}-{rule}" for rule in SUITE_RULES] if len(members) > 1 else [radius]
    for setting in settings:
        yield Evaluation(subject, members, "suite", setting)


def _in_short(subject, members):
    """PGD of the paper's table, and the suite at the smallest radius."""
    yield from _table(subject, members, ("pgd",))
    yield from _suites(subject, members, radii=1)


def _seeds(dataset):
    """Part 1: every member trained five times; EMPIR beside its full-precision member."""
    for run in range(TRAININGS):
        members = run_of(dataset, run)
        for subject, chosen in (("empir", members), ("baseline", members[-1:])):
            yield from _table(f"{subject}-{run}", chosen)
            yield from _suites(f"{subject}-{run}", chosen)


def _default_epochs(dataset):
    """Part 1 again, where the original's script trains for another number of epochs."""
    for run in range(TRAININGS):
        members = tuple(
            Training(dataset, one.precision, one.seed, epochs=6) for one in run_of(dataset, run)
        )
        yield from _table(f"empir-epochs6-{run}", members)
        yield from _table(f"baseline-epochs6-{run}", members[-1:])


def _alike(dataset, precision, count):
    """The first `count` trainings of a precision among EMPIR's, then further seeds."""
    trainings = [
        one
        for run in range(TRAININGS)
        for one in run_of(dataset, run)
        if one.precision == precision
    ]
    further = (Training(dataset, precision, seed) for seed in itertools.count(101))
    return tuple(itertools.islice(itertools.chain(trainings, further), count))


def _ensembles(dataset):
    """Part 2: three members of one precision, and one network with as many weights."""
    for subject, precision in (("full", "fp"), ("low", LOW[dataset])):
        trained = _alike(dataset, precision, TRAININGS)
        for run in range(COMPARED):
            chosen = tuple(trained[(run + offset) % TRAININGS] for offset in range(3))
            yield from _in_short(f"three-{subject}-{run}", chosen)
    for run in range(COMPARED):
        wide = (Training(dataset, "fp", 10 * run + 3, width=WIDE[dataset]),)
        yield from _in_short(f"wide-{run}", wide)


def _precisions(dataset):
    """Part 3: single networks of every precision, and pairs of them beside the shipped third."""
    full = run_of(dataset, 0)[-1]
    for weights, activations in itertools.product(BITS, BITS):
        precision = f"w{weights}a{activations}"
        if weights == activations == BITS[-1]:
            precision = "fp"
        pair = _alike(dataset, precision, 2)
        if precision == "fp":
            pair = _alike(dataset, precision, 3)[1:]
        yield from _in_short(f"one-{precision}", pair[:1])
        yield from _suites(f"two-{precision}", (*pair, full), radii=1)


def _members(dataset):
    """Part 4: ensembles of one to seven members of one precision."""
    for subject, precision in (("low", LOW[dataset]), ("full", "fp")):
        for count in range(1, 8):
            yield from _suites(f"{count}-{subject}", _alike(dataset, precision, count), radii=1)


def _defences(dataset):
    """Part 6: members that are trained on PGD's images, alone and as EMPIR."""
    members = tuple(
        Training(dataset, one.precision, one.seed, defended=True) for one in run_of(dataset, 0)
    )
    subjects = {"empir": members}
    for number, one in enumerate(members, 1):
        subjects[f"model{number}-{one.precision}"] = (one,)
    for subject, chosen in subjects.items():
        yield from _table(subject, chosen, ("pgd", "cw"))
        yield from _suite(subject, chosen, DEFENDED[dataset][0])


def _alexnet(dataset):
    """Part 7: AlexNet's members and EMPIR, one training of each, under the paper's attacks."""
    members = tuple(
        Training(dataset, one.precision, one.seed, width=PICTURES_WIDTH)
        for one in run_of(dataset, 0)
    )
    yield from _table("empir", members)
    for number, one in enumerate(members, 1):
        yield from _table(f"model{number}-{one.precision}", (one,))


#: Each part's evaluations of a dataset, in the order in which they are made, and its datasets.
PARTS = {
    "seeds": (_seeds, PAPERS),
    "ensembles": (_ensembles, PAPERS),
    "epochs": (_default_epochs, ("cifar10",)),
    "members": (_members, PAPERS),
    "precisions": (_precisions, PAPERS),
    "defences": (_defences, PAPERS),
    "alexnet": (_alexnet, (PICTURES,)),
}


def evaluations(part: str) -> List[Evaluation]:
    """The evaluations of a part; those of its datasets in turns.

    Raises:
      EmpirError: if there is no such part.
    """
    if part not in PARTS:
        raise EmpirError(f"part {part!r}: choose from {', '.join(PARTS)}")
    of_dataset, datasets = PARTS[part]
    pairs = itertools.zip_longest(*map(of_dataset, datasets))
    return [one for pair in pairs for one in pair if one is not None]


def trainings(chosen: List[Evaluation]) -> List[Training]:
    """The trainings that evaluations need, each once, in the order in which they are needed."""
    return list(dict.fromkeys(training for one in chosen for training in one.members))
