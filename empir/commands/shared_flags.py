"""Flags that several commands have, and how they are read: numbers, data, members, and own objects.

A flag such as --objective=mine.py:LogitDecay names an object of a user's own code. `load_object`
imports the file or module, so its code runs.
"""

import functools
import importlib
import importlib.util
import math
import os
import sys
from typing import Callable, Optional

from absl import flags

from empir import runtime
from empir.attacks import MOST
from empir.data import DATASETS, Dataset, Row, own, subsets
from empir.errors import EmpirError
from empir.experiments import Experiment, experiment
from empir.nn import architecture, architectures

FLAGS = flags.FLAGS

#: Flags that are read with --imagenet_path only.
IMAGENET_FLAGS = ("imagenet_path", "val_label_offset", "allow_missing_shards", "correct_channels")

#: The largest seed that everything random takes.
MOST_SEED = 2**31 - 1


class Number(flags.ArgumentParser):
    """Parses a finite number that is not negative, also one written as a fraction such as 8/255.

    Args:
      zero: whether 0 is accepted.
    """

    def __init__(self, zero: bool = True):
        super().__init__()
        self.syntactic_help = f"a finite number {'>=' if zero else '>'} 0, e.g. 0.1 or 8/255"
        self._zero = zero

    def parse(self, argument) -> float:
        """The number that a text means; ValueError, which absl completes, for any other text."""
        numerator, slash, denominator = str(argument).partition("/")
        try:
            value = float(numerator) / (float(denominator) if slash else 1.0)
        except (ValueError, ZeroDivisionError):
            value = math.nan
        if not (0 < value < math.inf or (self._zero and value == 0)):
            raise ValueError(f"write {self.syntactic_help}")
        return value

    def flag_type(self) -> str:
        """Name of the type, for absl."""
        return "number"


def define_number(name: str, default, text: str, zero: bool = True):
    """Define a flag for a finite number that is positive or, with `zero`, 0; see `Number`."""
    flags.DEFINE(Number(zero), name, default, text, serializer=flags.ArgumentSerializer())


def define_count(name: str, default, text: str, most: int = MOST):
    """Define a flag for a number of things, an integer of 1..most."""
    flags.DEFINE_integer(name, default, text, lower_bound=1, upper_bound=most)


def define_switches(**texts: str):
    """Define flags that are off by default, each with its help."""
    for name, text in texts.items():
        flags.DEFINE_bool(name, False, text)


def define_texts(**texts: str):
    """Define flags for texts without a default, each with its help."""
    for name, text in texts.items():
        flags.DEFINE_string(name, None, text)


def define_seed(default, text: str, name: str = "seed"):
    """Define a flag for a seed, an integer of 0..2^31 - 1."""
    flags.DEFINE_integer(name, default, text, lower_bound=0, upper_bound=MOST_SEED)


def define_command():
    """Define the flags that commands on any dataset share."""
    flags.DEFINE_string("dataset", "mnist", dataset_help())
    define_data("data_dir", "imagenet_path", training=False)
    define_switches(sample="Take the test images that are part of the repository.")
    define_threads()
    define_progress()


def define_threads():
    """Define --num_threads."""
    text = "The number of threads to compute with. By default it is OMP_NUM_THREADS, or else the "
    text += "number of this machine's processors."
    define_count("num_threads", None, text, runtime.MOST_THREADS)


def define_runtime():
    """Define --runtime, which `prepared` and `recorded_runtime` read."""
    flags.DEFINE_string(
        "runtime",
        "tensorflow",
        "What computes decisions where no gradient is needed: tensorflow, or onnx, which computes "
        "layers of up to 8 bits in integers by ONNX Runtime. Gradients are TensorFlow's.",
    )


def prepared(chosen: Experiment):
    """The function that gives an ensemble the runtime of --runtime, see `subjects.Source.prepare`.

    Args:
      chosen: the experiment, with the members' network.

    Raises:
      EmpirError: for an unknown runtime, or one that is not installed.
    """
    from empir import export

    if export.check_runtime(FLAGS.runtime) == "tensorflow":
        return None
    version = None if FLAGS.mixed_workers else export.require_onnx()
    given = dict(dataset=chosen.dataset, architecture=chosen.architecture, version=version)
    return functools.partial(export.attach_onnx, **given)


def recorded_runtime() -> dict:
    """What records say of --runtime, beside how members were built."""
    return {} if FLAGS.runtime == "tensorflow" else {"runtime": FLAGS.runtime}


def define_progress():
    """Define --progress."""
    flags.DEFINE_bool("progress", True, "Show progress bars on a terminal.")


def define_members(default: str):
    """Define --members, which `attack_flags.listed_members` reads.

    Args:
      default: a sentence about the members without the flag.
    """
    text = "An ensemble of any number of networks, PRECISION:CHECKPOINT for each, e.g. "
    text += "w2a4:model1,w4a2/w2a2/fp:model2,fp:model3. A precision is fp or the bits of weights "
    text += f"and activations, of all quantized layers or of each. {default}"
    flags.DEFINE_list("members", None, text)


def define_kinds():
    """Define --network, and --stocRound and --rand, with which networks draw at random."""
    known = ", ".join(architectures())
    define_texts(
        network=f"The members' network: {known}, or FILE.py:NAME of one of your own "
        "(docs/extending.md). By default it is the dataset's."
    )
    define_switches(
        stocRound="Quantize with stochastic rounding.",
        rand="Take MNIST's network of full precision that draws its weights anew in every pass "
        "(MNISTconvRand).",
    )


def define_combine(default, note: str = ""):
    """Define --combine."""
    text = "The decision rule of an ensemble: mean_logits, mean_probs or vote."
    flags.DEFINE_string("combine", default, text + note)


def given(name: str) -> bool:
    """Whether a flag, if this command has it, stands on the command line."""
    return name in FLAGS and FLAGS[name].present > 0


def define_data(*names: str, training: bool = True):
    """Define the flags that say where data are: "data_dir", "imagenet_path", or both.

    Args:
      training: whether the command reads training images too.
    """
    if "data_dir" in names:
        define_texts(
            data_dir="The folder with the dataset's files. By default they are looked for in "
            "Keras' cache, and downloaded into it."
        )
    if "imagenet_path" in names:
        _define_imagenet(training)


def _define_imagenet(training):
    define_texts(
        imagenet_path="The folder with ImageNet's TFRecords. It has no default, as they cannot be "
        "downloaded."
    )
    splits = {"val": ("validation", "0 for files named Val, else 1"), "train": ("training", "1")}
    for split in splits if training else ("val",):
        name, default = splits[split]
        text = (
            f"This is subtracted from the labels in the {name} files. By default it is {default}."
        )
        limits = dict(lower_bound=-1000, upper_bound=1000)
        flags.DEFINE_integer(f"{split}_label_offset", None, text, **limits)
    define_switches(
        allow_missing_shards="Use the TFRecord files that are there, if some are missing.",
        correct_channels="Normalise each channel by its own mean. The original and its checkpoints "
        "do not.",
    )


def define_own_data(*names: str):
    """Define --data and, beside --data_dir, --any_data: images that are not the dataset's.

    Args:
      names: as of `define_data`.
    """
    define_texts(
        data="Your own images and labels: an .npz file with the arrays x_test and y_test, or "
        "images and labels; for training also x_train and y_train. By default the dataset's are "
        "taken."
    )
    if "data_dir" in names:
        define_switches(
            any_data="Accept files in --data_dir that have the dataset's format, but are not the "
            "dataset's."
        )


def define_subset(default: str):
    """Define the flags that say which images are attacked where it is not all of them."""
    define_texts(
        subset="Which images are attacked if not all are: stratified, drawn at random with each "
        f"class's share, or first, the first ones. By default it is {default}."
    )
    define_seed(subsets.SEED, "The seed of --subset=stratified.", "subset_seed")


def take(data: Dataset, n: int, default: str) -> Dataset:
    """The n images of a split that --subset means, or else `default`.

    Raises:
      EmpirError: for another --subset, or if there are not so many images.
    """
    name = FLAGS.subset or default
    if name not in subsets.SUBSETS:
        raise EmpirError(f"--subset={name}: choose from {', '.join(subsets.SUBSETS)}")
    return data.first(n) if name == subsets.FIRST else data.subset(n, FLAGS.subset_seed)


def dataset_help() -> str:
    """The help of --dataset."""
    return (
        f"The dataset: {', '.join(DATASETS)}, or one of your own, as FILE.py:NAME or MODULE:NAME."
    )


def chosen_experiment(text: str) -> Experiment:
    """The experiment on the dataset that --dataset names.

    Args:
      text: a name of `empir.data.DATASETS`, or FILE.py:NAME or MODULE:NAME of a row of it.

    Raises:
      EmpirError: if there is no such dataset.
    """
    if ":" in text:
        row = load_object(text, "--dataset")
        if not isinstance(row, Row):
            raise EmpirError(f"--dataset={text} is no dataset: name what data.register returns")
        return experiment(row.name)
    if text not in DATASETS:
        known = ", ".join(DATASETS)
        raise EmpirError(f"--dataset={text}: choose from {known}, or give FILE.py:NAME")
    return experiment(text)


def load_data(
    experiment: Experiment, split: str, sample: bool = False, any_shape: bool = False
) -> Dataset:
    """The split of the data that the flags of `define_data` and `define_own_data` name.

    Args:
      experiment: whose data, and whose network own data must fit.
      split: "train" or "test".
      sample: take the embedded sample.
      any_shape: own data may have any shape, range and number of classes.

    Raises:
      DataError: see `empir.data`.
      EmpirError: if flags contradict each other, or are of another dataset.
    """
    return _loading(experiment, split, sample, any_shape)()


def loader(
    experiment: Experiment, split: str, sample: bool = False, any_shape: bool = False
) -> Optional[Callable[[], Dataset]]:
    """What loads the data of `load_data` in another process, where their files are seen.

    It can be pickled. It is None for files that are not named, but looked for or downloaded.
    """
    found = _loading(experiment, split, sample, any_shape)
    _, path, *others = found.args
    if path is None and not sample:
        return None
    path = path and os.path.abspath(path)
    return functools.partial(found.func, split, path, *others, **found.keywords)


def _loading(experiment, split, sample, any_shape) -> functools.partial:
    """A call that loads data; its arguments are the split, the path, and others."""
    path = FLAGS[experiment.data_flag].value
    if "data" in FLAGS and FLAGS.data is not None:
        return _own_data(experiment, split, sample, any_shape)
    if sample and path:
        raise EmpirError(f"--sample and --{experiment.data_flag} exclude each other")
    is_imagenet = experiment.data_flag == "imagenet_path"
    for name in ("data_dir",) if is_imagenet else IMAGENET_FLAGS:
        if given(name):
            raise EmpirError(f"--{name} is not for {experiment.title}: drop it")
    options = {"sample": True} if sample else {}
    if "any_data" in FLAGS and FLAGS.any_data:
        if is_imagenet or not path:
            raise EmpirError("--any_data needs --data_dir, the folder of files that it accepts")
        options["any_data"] = True
    if is_imagenet:
        options.update(
            label_offset=FLAGS.val_label_offset if split == "test" else FLAGS.train_label_offset,
            allow_missing_shards=FLAGS.allow_missing_shards,
            correct_channels=FLAGS.correct_channels,
        )
    return functools.partial(experiment.data.open, split, path, **options)


def _own_data(experiment, split, sample, any_shape):
    """As `_loading`, of the file of --data."""
    others = [name for name in ("data_dir", "imagenet_path", "any_data") if given(name)]
    for name in others + ["sample"] * sample:
        raise EmpirError(f"--data and --{name} exclude each other")
    if not FLAGS.data:
        raise EmpirError("--data is empty: name an .npz file")
    network = architecture(experiment.architecture)
    return functools.partial(
        own.load,
        split,
        FLAGS.data,
        experiment.clip_range,
        shape=None if any_shape else network.input_shape,
        num_classes=None if any_shape else network.num_classes,
        channels=experiment.data.channels,
    )


@functools.lru_cache(maxsize=None)  # a file's code runs once
def load_object(text: str, flag: str):
    """The object that a flag's value names.

    Args:
      text: FILE.py:NAME, or MODULE:NAME of a module that can be imported from the current folder.
      flag: the flag, for messages.

    Raises:
      EmpirError: if there is no such file, module or name, or the import fails.
    """
    source, _, name = text.rpartition(":")
    try:
        module = _module(source)
        return getattr(module, name)
    except Exception as error:  # of whatever kind the code of the module raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise EmpirError(f"{flag}={text} cannot be imported ({reason})")


def _module(source):
    if not source.endswith(".py"):
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        return importlib.import_module(source)
    name = os.path.splitext(os.path.basename(source))[0]
    spec = importlib.util.spec_from_file_location(name, source)
    module = importlib.util.module_from_spec(spec)
    # A class finds the module that it is defined in by its name.
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module
