"""The flags that say where images are, and the images that they name."""

from absl import flags

from empir.commands import extensions
from empir.commands.flag_types import define_seed
from empir.data import DATASETS, Dataset, Row, own, subsets
from empir.errors import EmpirError
from empir.experiments import Experiment, experiment
from empir.nn import architecture

FLAGS = flags.FLAGS

#: Flags that are read with --imagenet_path only.
IMAGENET_FLAGS = ("imagenet_path", "val_label_offset", "allow_missing_shards", "correct_channels")


def given(name: str) -> bool:
    """Whether a flag, if this command has it, stands on the command line."""
    return name in FLAGS and FLAGS[name].present > 0


def define_data(*names: str, training: bool = True):
    """Define the flags that say where data are: "data_dir", "imagenet_path", or both.

    Args:
      training: whether the command reads training images too.
    """
    if "data_dir" in names:
        flags.DEFINE_string(
            "data_dir",
            None,
            "The folder with the dataset's files. By default they are looked for in Keras' cache, "
            "and downloaded into it.",
        )
    if "imagenet_path" in names:
        _define_imagenet(training)


def _define_imagenet(training):
    flags.DEFINE_string(
        "imagenet_path",
        None,
        "The folder with ImageNet's TFRecords. It has no default, as they cannot be downloaded.",
    )
    splits = {"val": ("validation", "0 for files named Val, else 1")}
    if training:
        splits["train"] = ("training", "1")
    for split, (name, default) in splits.items():
        flags.DEFINE_integer(
            f"{split}_label_offset",
            None,
            f"This is subtracted from the labels in the {name} files. By default it is {default}.",
            lower_bound=-1000,
            upper_bound=1000,
        )
    flags.DEFINE_bool(
        "allow_missing_shards", False, "Use the TFRecord files that are there, if some are missing."
    )
    flags.DEFINE_bool(
        "correct_channels",
        False,
        "Normalise each channel by its own mean. The original and its checkpoints do not.",
    )


def define_own_data(*names: str):
    """Define --data and, beside --data_dir, --any_data: images that are not the dataset's.

    Args:
      names: as of `define_data`.
    """
    flags.DEFINE_string(
        "data",
        None,
        "Your own images and labels: an .npz file with the arrays x_test and y_test, or images and "
        "labels; for training also x_train and y_train. By default the dataset's are taken.",
    )
    if "data_dir" in names:
        flags.DEFINE_bool(
            "any_data",
            False,
            "Accept files in --data_dir that have the dataset's format, but are not the dataset's.",
        )


def define_subset(default: str):
    """Define the flags that say which images are attacked where it is not all of them."""
    flags.DEFINE_string(
        "subset",
        None,
        "Which images are attacked if not all are: stratified, drawn at random with each class's "
        f"share, or first, the first ones. By default it is {default}.",
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
        row = extensions.load(text, "--dataset")
        if not isinstance(row, Row):
            raise EmpirError(f"--dataset={text} is no dataset: name what data.register returns")
        return experiment(row.name)
    if text not in DATASETS:
        known = ", ".join(DATASETS)
        raise EmpirError(f"--dataset={text}: choose from {known}, or give FILE.py:NAME")
    return experiment(text)


def load_data(experiment: Experiment, split: str, sample: bool = False, any_shape: bool = False):
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
    return experiment.data.open(split, path, **options)


def _own_data(experiment, split, sample, any_shape):
    """The split in the file of --data."""
    others = [name for name in ("data_dir", "imagenet_path", "any_data") if given(name)]
    for name in others + ["sample"] * sample:
        raise EmpirError(f"--data and --{name} exclude each other")
    if not FLAGS.data:
        raise EmpirError("--data is empty: name an .npz file")
    network = architecture(experiment.architecture)
    return own.load(
        split,
        FLAGS.data,
        experiment.clip_range,
        shape=None if any_shape else network.input_shape,
        num_classes=None if any_shape else network.num_classes,
        channels=experiment.data.channels,
    )
