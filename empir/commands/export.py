"""Write an ensemble in the format of another tool, as a folder that needs nothing of this project.

    empir export --format=pytorch --dataset=cifar10 --out=runs/cifar10-pytorch
    empir export --format=onnx --precision=integer --dataset=mnist --out=runs/mnist-onnx
    empir export --format=pytorch --members=w2a4:PATH,fp:PATH --combine=vote --out=DIR

The members are the dataset's in checkpoints unless --members names others.
"""

from absl import flags

from empir.commands import attack_flags, shared_flags
from empir.errors import EmpirError
from empir.export import FORMATS
from empir.records import runs

FLAGS = flags.FLAGS


def setup():
    """Define the flags; returns the main function."""
    formats = "; ".join(f"{name}, {row.about}" for name, row in FORMATS.items())
    flags.DEFINE_string("format", None, f"The format, which has no default: {formats}.")
    flags.DEFINE_string("dataset", "mnist", shared_flags.dataset_help())
    shared_flags.define_members("By default they are the dataset's in checkpoints.")
    shared_flags.define_combine("mean_logits")
    shared_flags.define_kinds()
    flags.DEFINE_string(
        "precision",
        None,
        "How the format onnx computes quantized layers: integer, with 8-bit integers, or float. By "
        "default it is integer.",
    )
    flags.DEFINE_string("out", None, "The folder to make. It has no default.")
    return run


def run(_):
    """Load the ensemble, and write the folder.

    Raises:
      EmpirError: for bad input; `process.exit_with` prints it as one line.
    """
    if FLAGS.format not in FORMATS:
        given = f"={FLAGS.format}" if FLAGS.format else " is missing"
        raise EmpirError(f"--format{given}: choose from {', '.join(FORMATS)}")
    if not FLAGS.out:
        raise EmpirError("--out is missing: name a folder to make")
    runs.check_new(FLAGS.out)
    usual = shared_flags.chosen_experiment(FLAGS.dataset)
    chosen, _ = attack_flags.network_and_members(usual)

    from empir import export, front
    from empir.export import source

    ensemble = front.load_ensemble(
        FLAGS.dataset,
        FLAGS.members,
        FLAGS.combine,
        chosen.architecture,
        **attack_flags.options(),
    )
    with ensemble.session:
        options = {} if FLAGS.precision is None else {"precision": FLAGS.precision}
        export.write(source.read(ensemble, chosen), FLAGS.format, FLAGS.out, **options)
    print(f"{FLAGS.out}: {FLAGS.format}, {len(ensemble.members)} members, {FLAGS.combine}")
