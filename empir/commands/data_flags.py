"""The flags that say where images are, and the images that they name."""

from absl import flags

from empir.data import own
from empir.errors import EmpirError
from empir.experiments import Experiment
from empir.nn import architecture

FLAGS = flags.FLAGS


def given(name: str) -> bool:
    """Whether a flag, if this command has it, stands on the command line."""
    return name in FLAGS and FLAGS[name].present > 0


#: Flags that are read with --imagenet_path only.
IMAGENET_FLAGS = ("imagenet_path", "val_label_offset", "allow_missing_shards", "correct_channels")


def define_data(*names: str, training: bool = True):
    """Define the flags that say where data are: "data_dir", "imagenet_path", or both.

    Args:
      training: whether the command reads training images too.
    """
    if "data_dir" in names:
        text = "folder with the dataset's files; default: Keras' cache, into which it is downloaded"
        flags.DEFINE_string("data_dir", None, text)
    if "imagenet_path" in names:
        text = "folder with ImageNet's TFRecords; no default, as they cannot be downloaded"
        flags.DEFINE_string("imagenet_path", None, text)
        for split, default in (("val", "0 for files named Val, else 1"), ("train", "1")):
            if split == "val" or training:
                flags.DEFINE_integer(
                    split + "_label_offset",
                    None,
                    "what is subtracted from the labels of the %s files; default: %s"
                    % ("validation" if split == "val" else "training", default),
                    lower_bound=-1000,
                    upper_bound=1000,
                )
        flags.DEFINE_bool("allow_missing_shards", False, "use the TFRecord files that are there")
        flags.DEFINE_bool(
            "correct_channels",
            False,
            "normalise each channel by its own mean, unlike the original and its checkpoints",
        )


def define_own_data(*names: str):
    """Define --data and, beside --data_dir, --any_data: images that are not the dataset's.

    Args:
      names: as of `define_data`.
    """
    text = "your own images and labels: an .npz file with x_test and y_test, or images and labels; "
    text += "for training x_train and y_train too; default: the dataset's"
    flags.DEFINE_string("data", None, text)
    if "data_dir" in names:
        text = "accept files in --data_dir of the dataset's format that are not the dataset's"
        flags.DEFINE_bool("any_data", False, text)


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
        raise EmpirError("--sample and --%s exclude each other" % experiment.data_flag)
    others = ("data_dir",) if experiment.data_flag == "imagenet_path" else IMAGENET_FLAGS
    for name in others:
        if given(name):
            raise EmpirError("--%s is not for %s: drop it" % (name, experiment.title))
    more = {}
    if "any_data" in FLAGS and FLAGS.any_data:
        if experiment.data_flag != "data_dir" or not path:
            raise EmpirError("--any_data needs --data_dir, the folder of files that it accepts")
        more["any_data"] = True
    if experiment.data_flag != "imagenet_path":
        return experiment.load(split, path, sample, **more)
    return experiment.load(
        split,
        path,
        sample,
        label_offset=FLAGS.val_label_offset if split == "test" else FLAGS.train_label_offset,
        allow_missing_shards=FLAGS.allow_missing_shards,
        correct_channels=FLAGS.correct_channels,
    )


def _own_data(experiment, split, sample, any_shape):
    """The split in the file of --data."""
    others = [name for name in ("data_dir", "imagenet_path", "any_data") if given(name)]
    for name in others + (["sample"] if sample else []):
        raise EmpirError("--data and --%s exclude each other" % name)
    if not FLAGS.data:
        raise EmpirError("--data is empty: name an .npz file")
    network = architecture(experiment.architecture)
    return own.load(
        split,
        FLAGS.data,
        experiment.clip_range,
        shape=None if any_shape else network.input_shape,
        num_classes=None if any_shape else network.num_classes,
        channels="BGR" if experiment.data_flag == "imagenet_path" else "RGB",
    )
