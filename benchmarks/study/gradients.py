"""Why attacks on one network of an ensemble say little about the others, and about the whole.

    python -m benchmarks.study.gradients --dataset=mnist --data_dir=FOLDER --eps=0.1 --out=FILE.json

The networks are the members of --members (by default the shipped ones, and the independent one). On
test images drawn with each class's share it measures

- transfer: PGD on each network, away from the true classes, judged by all of them;
- agreement: the cosine between the input gradients of the cross-entropy of two networks, and
  between the signs of these gradients, which are what FGSM, BIM and PGD follow;
- zeros: on how many images that gradient is zero in float32, and in which share of pixels;
- double softmax: the same for the loss of the original's attacks, which takes the softmax of the
  probabilities (docs/original.md), and how long its gradient is, beside that of the cross-entropy.

Beside FILE.json, FILE.npz has the images on which each network is right, clean and attacked.
"""

import numpy as np
from absl import flags

from empir import runtime
from empir.commands import attack_flags, commandline, shared_flags
from empir.data import subsets
from empir.errors import EmpirError
from empir.evaluation import subjects
from empir.experiments import experiment
from empir.records import runs

FLAGS = flags.FLAGS
IMAGES = 100  # of a graph call


def setup():
    """Define the flags; returns the main function."""
    shared_flags.define_command()
    shared_flags.define_members("By default they are the shipped ones, and the independent one.")
    text = "radius of PGD in L-infinity, e.g. 0.1 or 8/255; default: the paper's"
    shared_flags.define_number("eps", None, text, zero=False)
    shared_flags.define_count("nb_samples", 1000, "test images")
    shared_flags.define_subset(subsets.STRATIFIED)
    flags.DEFINE_string("out", None, "file for the record, NAME.json")
    return run


def run(_):
    """Measure and write the record.

    Raises:
      EmpirError: for bad input.
    """
    chosen = experiment(FLAGS.dataset)
    if not (FLAGS.out or "").endswith(".json"):
        raise EmpirError(f"--out={FLAGS.out}: name a file NAME.json")
    runs.check_file(FLAGS.out)
    specs = _specs(chosen)
    runtime.configure(FLAGS.num_threads, images=IMAGES)
    data = shared_flags.load_data(chosen, "test", FLAGS.sample)
    data = shared_flags.take(data, FLAGS.nb_samples, subsets.STRATIFIED)

    from benchmarks.study import agreement  # loads TensorFlow, which is configured first

    eps = chosen.eps if FLAGS.eps is None else FLAGS.eps
    record, right = agreement.measure(chosen, specs, data, eps, IMAGES)
    with runs.replacing(FLAGS.out[: -len(".json")] + ".npz") as file:
        np.savez_compressed(file, **{name: np.packbits(bits, -1) for name, bits in right.items()})
    runs.write_json(FLAGS.out, record)
    return 0


def _specs(chosen):
    if FLAGS.members is not None:
        return attack_flags.listed_members()
    return (*subjects.shipped(chosen), *subjects.independent(chosen))


if __name__ == "__main__":
    commandline.run_main(setup)
