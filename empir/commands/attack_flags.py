"""What the flags of `empir attack` ask for: read once, checked, and kept as one frozen record."""

import os
from dataclasses import dataclass, fields, replace
from typing import Iterator, List, Optional, Tuple

from absl import flags

from empir import attacks
from empir.commands import defenses, shared_flags
from empir.commands.shared_flags import given
from empir.errors import EmpirError
from empir.experiments import ADAPTIVE, PROTOCOLS, Experiment, Protocol
from empir.models import checkpoints
from empir.models.checkpoint_files import has_checkpoint
from empir.models.checkpoints import MemberSpec
from empir.nn import Architecture, architecture, precision
from empir.training import training_folder

FLAGS = flags.FLAGS

#: Flags that some attacks read; that attacks read; that say what is kept of one; and that trainings
#: read. A flag on the command line that the run does not read is warned about.
ATTACK_FLAGS = ("eps", "eps_iter", "nb_iter", "attack_iterations")
EVALUATION_FLAGS = (
    *("attack", "nb_samples", "subset", "subset_seed", "targeted", "true_labels"),
    *("out", "protocol", "engine"),
)
SHOWING_FLAGS = ("save_adversarial", "viz_enabled")
TRAINING_FLAGS = ("nb_epochs", "batch_size", "test", "logdir", "keep_state", "train_label_offset")

#: Fields of an experiment that flags of another name set.
SETTINGS = {"cw_iterations": "attack_iterations"}
SETTINGS.update((name, name) for name in ("eps", "eps_iter", "nb_iter", "batch_size", "nb_epochs"))

#: Flags that name networks in place of --members.
PATHS = ("model_path1", "model_path2", "model_path3")
BITS = ("wbits", "abits", "wbitsList", "abitsList")
SECOND_BITS = ("wbits2", "abits2", "wbits2List", "abits2List")


@dataclass(frozen=True)
class Request:
    """A training, an attack, or one after the other.

    The fields that are not listed here are the values of the flags of their names.

    Attributes:
      experiment: the experiment, with the network of --network or --rand if one is asked for.
      setting: the same with the values of the flags for the attack, the training and the seed.
      members: the networks to attack, or the one to train.
      training: whether the network is trained first.
      attack: the name of the attack.
      protocol: how the attack is judged.
      options: arguments of the network's builder that are asked for, or differ from its defaults.
      draws: whether the networks draw at random.
      draw: whether images are drawn beside their adversarial images.
    """

    experiment: Experiment
    setting: Experiment
    members: Tuple[MemberSpec, ...]
    training: bool
    attack: str
    protocol: Protocol
    options: dict
    draws: bool
    draw: bool
    train_only: bool
    targeted: bool
    true_labels: bool
    temperature: float
    engine: Optional[bool]
    out: Optional[str]
    resume: bool
    save_adversarial: bool
    progress: bool

    @property
    def network(self) -> Architecture:
        """The architecture of the members."""
        return architecture(self.experiment.architecture)

    @property
    def precisions(self) -> List[tuple]:
        """The precisions of each member, one for each quantized layer."""
        layers = len(self.network.quantized_layers)
        return [precision.per_layer(spec.precision, layers) for spec in self.members]

    @property
    def is_adaptive(self) -> bool:
        """Whether the suite of adaptive attacks is asked for, not one attack."""
        return self.protocol.name == ADAPTIVE

    @property
    def recorded_options(self) -> dict:
        """The `options` that differ from the builder's defaults."""
        usual = ("nb_filters", self.experiment.nb_filters)
        return {name: value for name, value in self.options.items() if (name, value) != usual}

    def batch_size(self, num_examples: int) -> int:
        """The number of images that are attacked together, of so many."""
        return min(self.experiment.attack_batch or self.setting.batch_size, num_examples)


def read(experiment: Experiment) -> Request:
    """The request of the parsed flags.

    Raises:
      EmpirError: for flags that are missing, or contradict each other.
    """
    specs = members()
    chosen = with_network(experiment, specs)
    is_single = not given("members") and len(specs) == 1
    setting = {name: FLAGS[flag].value for name, flag in SETTINGS.items()}
    setting["learning_rate"] = FLAGS[chosen.learning_rate_flag].value
    setting["seed"] = chosen.seed if FLAGS.seed is None else FLAGS.seed
    derived = dict(
        experiment=chosen,
        setting=replace(chosen, **setting),
        members=specs,
        training=is_single and _is_to_be_trained(specs[0].path),
        attack=attacks.canonical_name(FLAGS.attack),
        protocol=protocol(),
        options=options(),
        draws=FLAGS.stocRound or architecture(chosen.architecture).draws,
        draw=FLAGS.viz_enabled,
    )
    names = [field.name for field in fields(Request) if field.name not in derived]
    request = Request(**derived, **{name: FLAGS[name].value for name in names})
    if request.train_only and (len(specs) > 1 or specs[0].path is None):
        raise EmpirError("--train_only needs --model_path, the folder to train a network in")
    if request.is_adaptive and not FLAGS.eps > 0:
        raise EmpirError(f"--eps={FLAGS.eps:g}: --protocol=adaptive needs a radius above 0")
    return request


def members() -> Tuple[MemberSpec, ...]:
    """The members that the flags ask for: one, the three of --ensembleThree, or --members.

    Raises:
      EmpirError: for bits or paths that are missing, out of range, or contradict each other.
    """
    if given("members"):
        others = ("ensembleThree", "lowprecision", "model_path", *PATHS, *BITS, *SECOND_BITS)
        _refuse(others, "and --members exclude each other")
        return listed_members()
    return _ensemble_members() if FLAGS.ensembleThree else (_single_member(),)


def _refuse(names, reason):
    """Raise `EmpirError` for the first of some flags that has a value on the command line."""
    for name in names:
        if given(name) and FLAGS[name].value:
            raise EmpirError(f"--{name} {reason}")


def listed_members() -> Tuple[MemberSpec, ...]:
    """The members of --members; `EmpirError` for an entry that is not PRECISION:CHECKPOINT."""
    if not FLAGS.members:
        raise EmpirError("--members is empty: give PRECISION:CHECKPOINT,...")
    return tuple(MemberSpec.parse(text, "--members") for text in FLAGS.members)


def network_and_members(usual: Experiment) -> Tuple[Experiment, Tuple[MemberSpec, ...]]:
    """The experiment with the network of the flags, and --members or else the shipped members.

    Raises:
      EmpirError: as `with_network`, or if the shipped members are wanted and missing, or of another
        network than that of the flags.
    """
    members = () if FLAGS.members is None else listed_members()
    chosen = with_network(usual, members)
    if FLAGS.members is not None:
        return chosen, members
    if chosen.architecture != usual.architecture:
        asked = "--rand" if FLAGS.network is None else f"--network={FLAGS.network}"
        raise EmpirError(
            f"{asked} needs --members=PRECISION:CHECKPOINT,..., as the members in checkpoints are "
            f"networks of the kind {usual.architecture}"
        )
    from empir.evaluation import subjects

    return chosen, subjects.shipped(chosen)


def with_network(experiment: Experiment, specs) -> Experiment:
    """The experiment with the network of --network or --rand; the same one without these flags.

    Raises:
      EmpirError: if there is no such network, or of --rand if a member is quantized.
    """
    if FLAGS.network is not None:
        if FLAGS.rand:
            raise EmpirError("--network and --rand exclude each other")
        network = _network(FLAGS.network)
        return replace(experiment, architecture=network.name, nb_filters=network.nb_filters)
    if not FLAGS.rand:
        return experiment
    if experiment.random_architecture is None:
        raise EmpirError("--rand is a network for MNIST only: drop it")
    layers = len(architecture(experiment.architecture).quantized_layers)
    for spec in specs:
        if not all(bits.is_full for bits in precision.per_layer(spec.precision, layers)):
            raise EmpirError(
                "--rand is a network of full precision: drop bits, or name members fp:CHECKPOINT"
            )
    return replace(experiment, architecture=experiment.random_architecture)


def _network(text):
    """The network of --network: a name of `nn.architectures`, or that of an object in a file."""
    if ":" not in text:
        return architecture(text)
    network = shared_flags.load_object(text, "--network")
    if not isinstance(network, Architecture):
        raise EmpirError(f"--network={text} is no network: name what nn.register returns")
    return architecture(network.name)


def protocol() -> Protocol:
    """The protocol that the flags ask for.

    Raises:
      EmpirError: for an unknown --protocol, or one that contradicts --combine or --attack_target.
    """
    name = FLAGS.protocol or "whitebox"
    if name == ADAPTIVE:
        if FLAGS.attack_target:
            raise EmpirError("--protocol=adaptive attacks all targets: drop --attack_target")
        return Protocol(name, FLAGS.combine or PROTOCOLS["whitebox"].combine, None)
    if name not in PROTOCOLS:
        known = ", ".join([*PROTOCOLS, ADAPTIVE])
        raise EmpirError(f"--protocol={name}: choose from {known}")
    named = PROTOCOLS[name]
    asked = Protocol(
        name, FLAGS.combine or named.combine, FLAGS.attack_target or named.attack_target
    )
    if FLAGS.protocol and asked != named:
        raise EmpirError(
            f"--protocol={name} means --combine={named.combine} --attack_target="
            f"{named.attack_target}: drop --protocol to choose others"
        )
    unnamed = replace(asked, name=None)
    alike = [row for row in PROTOCOLS.values() if replace(row, name=None) == unnamed]
    return alike[0] if alike else unnamed


def without_effect(request: Request) -> Iterator[Tuple[str, str]]:
    """The flags on the command line that a run does not read, each with the reason."""
    is_pgd_training = request.training and defenses.asked("adv") and FLAGS.adv == defenses.PGD
    in_training = {"nb_iter"} if is_pgd_training else set()
    if request.train_only:
        unread = set(ATTACK_FLAGS + EVALUATION_FLAGS + SHOWING_FLAGS) - in_training
        yield from _given(unread, "--train_only attacks nothing")
    elif request.is_adaptive:
        unread = {"attack", "eps_iter", "attack_iterations", "nb_iter", *SHOWING_FLAGS}
        unread |= {"targeted", "true_labels"}
        yield from _given(unread - in_training, "--protocol=adaptive sets its own attacks")
    else:
        read_by_attack = set(attacks.row(request.attack).sources().values())
        unread = set(ATTACK_FLAGS) - read_by_attack - in_training
        yield from _given(unread, f"--attack={request.attack} does not read it")
        if request.targeted or not attacks.row(request.attack).takes("y"):
            yield from _given(["true_labels"], "the attack leads towards other classes")
    if not request.training:
        unread = {*TRAINING_FLAGS, request.experiment.learning_rate_flag}
        if request.experiment.attack_batch is None:
            unread.remove("batch_size")
        yield from _given(unread, "the networks are loaded, not trained")
    yield from defenses.without_effect(request.training)
    if given("save_adversarial") and not request.out:
        yield "save_adversarial", "there is no --out to save to"
    if request.resume and not request.out and not (request.training and FLAGS.model_path):
        if not FLAGS.model_path:
            yield "resume", "nothing is kept without --out or --model_path"
        elif request.train_only:
            yield "resume", "the network of --model_path is trained to its end"
        else:
            yield "resume", "the network of --model_path is loaded, and there is no --out"


def _given(names, reason):
    return ((name, reason) for name in sorted(names) if given(name))


def options() -> dict:
    """Arguments of the network's builder that are asked for, or that differ from its defaults."""
    found = {"stochastic_rounding": True} if FLAGS.stocRound else {}
    if given("temperature") and FLAGS.temperature != 1:
        found["temperature"] = FLAGS.temperature
    if given("nb_filters"):
        found["nb_filters"] = FLAGS.nb_filters
    return found


def _is_to_be_trained(path):
    """Whether a network is trained: no --model_path, or a folder without a checkpoint.

    It also is if the folder holds an unfinished training, or with --train_only --resume a finished
    one of another number of epochs.

    Faithfulness: as the original, which crashed when it saved (docs/original.md, Defects 1); a
    folder that does not exist is an error instead of a missing checkpoint met later (Defects 8).
    """
    if path is None or training_folder.is_unfinished(path):
        return True
    if has_checkpoint(path):
        return FLAGS.train_only and FLAGS.resume and _has_other_epochs(path)
    if not os.path.isdir(path):
        raise EmpirError(
            f"no checkpoint at --model_path={path}; to train a network into it, make the folder "
            "first"
        )
    if not training_folder.is_free(path):
        raise EmpirError(
            f"no checkpoint in --model_path={path}, and it is not an empty folder to train in"
        )
    return True


def _has_other_epochs(path):
    """Whether the finished training in a folder has another number of epochs than is asked for."""
    record = checkpoints.training_record(path) if os.path.isdir(path) else None
    asked = FLAGS.student_epochs if defenses.asked("distill") else FLAGS.nb_epochs
    return record is not None and record.get("epochs") != asked


def _ensemble_members():
    reason = "and --ensembleThree contradict each other: the ensemble's networks are "
    _refuse(
        ("model_path", "lowprecision"), reason + "--model_path1, --model_path2 and --model_path3"
    )
    missing = [f"--{name}" for name in PATHS if not FLAGS[name].value]
    if missing:
        raise EmpirError(f"--ensembleThree needs {', '.join(missing)}")
    precisions = (_bits(""), _bits("2"), precision.FULL)
    return tuple(MemberSpec(bits, FLAGS[name].value) for bits, name in zip(precisions, PATHS))


def _single_member():
    of_ensembles = (*PATHS, *SECOND_BITS, "combine", "attack_target", "temperature")
    _refuse(of_ensembles, "is for ensembles: add --ensembleThree or --members, or drop it")
    if FLAGS.lowprecision:
        return MemberSpec(_bits(""), FLAGS.model_path)
    reason = "is for quantized networks: add --lowprecision or --ensembleThree"
    _refuse((*BITS, "stocRound"), reason)
    return MemberSpec(precision.FULL, FLAGS.model_path)


def _bits(suffix):
    """Precision(s) of model 1 (suffix "") or model 2 ("2")."""
    names = [f"wbits{suffix}", f"abits{suffix}"]
    lists = [f"{name}List" for name in names]
    if any(map(given, lists)):
        if any(map(given, names)):
            raise EmpirError(f"--{names[0]} and --{lists[0]} exclude each other")
        chosen = precision.from_lists(*map(_integers, lists))
        is_full = all(layer.is_full for layer in chosen)
    else:
        for name in names:
            if not FLAGS[name].value:
                raise EmpirError(f"--{name} is missing: give 1..31 bits, e.g. --{name}=2")
            precision.check_bits(FLAGS[name].value, f"--{name}")
        chosen = precision.Precision.of(*(FLAGS[name].value for name in names))
        is_full = chosen.is_full
    if is_full:
        raise EmpirError(f"--{names[0]}=32: a quantized network needs bits below 32")
    return chosen


def _integers(name):
    values = FLAGS[name].value
    if not values:
        raise EmpirError(f"--{name} is missing: give one value per quantized layer")
    try:
        return [int(value) for value in values]
    except ValueError:
        raise EmpirError(f"--{name}={','.join(values)}: write integers, e.g. --{name}=2,4,2")
