"""Make checkpoints of a network in PyTorch, so that it is attacked here.

    empir import --folder=runs/cifar10-pytorch --out=runs/imported

--folder is one that empir export --format=pytorch made, or one like it, whose weights.safetensors
holds the state dict of a network that was trained on in PyTorch. --out gets a folder for each
member, and the last line printed is what --members takes.
"""

from absl import flags

from empir.errors import EmpirError
from empir.records import runs

FLAGS = flags.FLAGS


def setup():
    """Define the flags; returns the main function."""
    text = "The folder with config.json and weights.safetensors. It has no default."
    flags.DEFINE_string("folder", None, text)
    flags.DEFINE_string("out", None, "The folder of checkpoints to make. It has no default.")
    return run


def run(_):
    """Read the network, write its checkpoints, and say how to name them.

    Raises:
      EmpirError: for bad input; `process.exit_with` prints it as one line.
    """
    for name, what in (("folder", "an exported network"), ("out", "the checkpoints")):
        if not FLAGS[name].value:
            raise EmpirError(f"--{name} is missing: name a folder for {what}")
    runs.check_new(FLAGS.out)

    from empir.export import reading

    print("--members=" + ",".join(reading.write(FLAGS.folder, FLAGS.out)))
