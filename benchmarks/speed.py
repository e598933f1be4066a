"""Time this project's attacks and training beside CleverHans and PyTorch.

    python -m benchmarks.speed --data_dir=FOLDER      (scripts/benchmark.sh makes what it needs)

PyTorch is Foolbox, torchattacks, and plain loops around a network that torch.compile compiled. Each
system attacks the same images of the same networks with the same parameters. Each has its own
process, which waits while the others run. The systems take turns, so that other load on the machine
slows all of them. Finished measurements are kept in --out, and the same command continues there.
"""

import logging
import os
import re

from absl import flags

from benchmarks import comparison, convolution_worker, startup, worker_process
from benchmarks.pages import speed as report
from empir import runtime
from empir.commands import commandline, shared_flags
from empir.commands.shared_flags import define_count, define_number
from empir.errors import EmpirError
from empir.records import locks, runs

FLAGS = flags.FLAGS
log = logging.getLogger("empir")


def setup():
    """Define the flags; returns the main function."""
    text = "folder that holds mnist and cifar-10-batches-bin; default: Keras' cache"
    flags.DEFINE_string("data_dir", None, text)
    flags.DEFINE_string("pytorch", None, "Python with PyTorch; default: .venv-pytorch/bin/python")
    flags.DEFINE_string("out", os.path.join("results", "benchmark"), "folder of the measurements")
    define_count("repeats", 5, "timed calls of each system, at most")
    define_number("budget", 30.0, "seconds after which an attack's third turn is its last")
    define_number("limit", 1200.0, "leave out attacks that would take all systems more seconds")
    flags.DEFINE_list("batch_sizes", ["100", "1", "32", "500"], "images per call")
    attacks = list(comparison.ATTACKS)
    flags.DEFINE_list("attacks", attacks, "of " + ", ".join(attacks))
    shared_flags.define_threads()
    flags.DEFINE_bool("check_flags", False, "check the other flags, then stop")
    return run


def _batch_sizes():
    """The batch sizes, after all flags are checked."""
    sizes = [int(size) if re.match(r"[0-9]{1,6}\Z", size) else 0 for size in FLAGS.batch_sizes]
    if min(sizes, default=0) < 1:
        raise EmpirError(f"--batch_sizes={','.join(FLAGS.batch_sizes)}: integers of 1..999999")
    unknown = sorted(set(FLAGS.attacks) - set(comparison.ATTACKS))
    if unknown or not FLAGS.attacks:
        known = ", ".join(comparison.ATTACKS)
        raise EmpirError(f"--attacks={','.join(unknown)}: choose from {known}")
    runs.check_writable(FLAGS.out)
    return sizes


def run(_):
    """Measure everything that is not in the record yet, and print the tables of attacks.

    Raises:
      EmpirError: for bad input, or a system that fails or computes other logits.
    """
    sizes = _batch_sizes()
    if FLAGS.check_flags:
        return
    runtime.configure(FLAGS.num_threads)
    pytorch = worker_process.pytorch_program(FLAGS.pytorch)
    data_dir = FLAGS.data_dir and os.path.abspath(FLAGS.data_dir)
    pace = comparison.Pace(FLAGS.repeats, FLAGS.budget, FLAGS.limit)
    with locks.lock(FLAGS.out), runs.temporary_folder() as folder:
        store = comparison.Store(os.path.join(FLAGS.out, "comparison.json"))
        convolution_worker.write(os.path.join(folder, comparison.CONVOLUTIONS))
        commands = {}
        for model in comparison.MODELS:
            path = os.path.join(folder, f"{model.name}.npz")
            comparison.export(model, data_dir, path)
            commands[model] = comparison.systems(path, pytorch, runtime.threads())
        if "startup" not in store.record:
            store.put("startup", startup.measure(data_dir, FLAGS.repeats))
        for model in comparison.MODELS:
            comparison.measure_training(store, model, commands[model], FLAGS.repeats)
        for batch_size in sizes:
            what = dict(names=FLAGS.attacks, batch_size=batch_size, pace=pace)
            for model in comparison.MODELS:
                comparison.measure_attacks(store, model, commands[model], **what)
    print(report.attacks_table(store.record))
    print(report.batches_table(store.record))
    log.info(
        "%s is complete; python -m benchmarks.pages puts it into docs/performance.md", store.path
    )


if __name__ == "__main__":
    commandline.run_main(setup)
