"""Time what an ensemble costs beside one full-precision network, in several runtimes.

    python -m benchmarks.inference --out=results/inference.json

TensorFlow, ONNX Runtime 1.10, the current ONNX Runtime and PyTorch compute the same networks:
MNISTconv, CIFARconv and AlexNet, the ensemble, its members, and its full-precision member alone,
which is the baseline. Quantized layers are computed in float32, and by ONNX Runtime in 8-bit
integers too. The weights are random and the images noise; both take the same time as any other.
The systems take turns, so that other load on the machine slows all of them. Nothing else should
run meanwhile. The environment of the current ONNX Runtime and PyTorch is scripts/pytorch.sh's.
"""

import os
import sys

import numpy as np
from absl import flags

from benchmarks import worker_process
from benchmarks.inference_worker import NETWORKS, onnx_name
from benchmarks.pages import inference as report
from benchmarks.throughput import made, members
from empir import runtime
from empir.commands import commandline
from empir.commands.shared_flags import define_count, define_number
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS, experiment
from empir.records import runs

FLAGS = flags.FLAGS

#: Systems: the library of their worker, whether PyTorch's Python runs it, and the precisions.
SYSTEMS = {
    "tensorflow": ("tensorflow", False, ("float",)),
    "onnxruntime-1.10": ("onnxruntime", False, ("float", "integer")),
    "onnxruntime": ("onnxruntime", True, ("float", "integer")),
    "pytorch": ("pytorch", True, ("float",)),
}
#: What is timed in each precision.
TIMED = {
    "float": ("baseline", "ensemble"),
    "integer": ("ensemble", "member1", "member2"),
}
THREADS = (1, 2)


def setup():
    """Define the flags; returns the main function."""
    flags.DEFINE_list("datasets", list(EXPERIMENTS), "Whose networks.")
    flags.DEFINE_list("batch_sizes", ["1", "32", "100", "500"], "The numbers of images of a call.")
    flags.DEFINE_list("systems", list(SYSTEMS), "Of " + ", ".join(SYSTEMS) + ".")
    flags.DEFINE_string("pytorch", None, "Python with PyTorch. By default .venv-pytorch's.")
    define_count("turns", 3, "The number of turns, of which the median counts.")
    define_number("seconds", 0.15, "Seconds of calls in each turn, or one call.")
    text = "A call whose first turn takes more seconds has no others."
    define_number("once", 1.0, text)
    text = "Leave out batches of which one call of the baseline takes more seconds."
    define_number("limit", 5.0, text)
    flags.DEFINE_string("out", None, "The file of the record, JSON. By default there is none.")
    return run


def run(_):
    """Measure, print the overheads at batches of 100, and write the record."""
    sizes = [int(size) for size in FLAGS.batch_sizes if size.isdigit() and int(size)]
    unknown = [name for name in FLAGS.systems if name not in SYSTEMS]
    if len(sizes) != len(FLAGS.batch_sizes) or unknown:
        raise EmpirError(
            f"--batch_sizes={FLAGS.batch_sizes}, --systems={FLAGS.systems}: see --help"
        )
    if FLAGS.out is not None:
        runs.check_file(FLAGS.out)
    python = worker_process.pytorch_program(FLAGS.pytorch)
    runtime.configure()
    record = dict(networks={}, versions_of={}, **made())
    for dataset in FLAGS.datasets:
        chosen = experiment(dataset)
        with runs.temporary_folder() as folder:
            network = write_networks(chosen, folder)
            network["cells"] = []
            for threads in THREADS:
                commands = _commands(folder, python, threads)
                with worker_process.started(commands) as workers:
                    for name, worker in workers.items():
                        record["versions_of"][name] = worker.ask("environment")["versions"]
                    network["cells"] += _measure(network, workers, threads, sizes)
            record["networks"][chosen.architecture] = network
        if FLAGS.out:
            runs.write_json(FLAGS.out, record)
        found = report.times(network)
        for system, title in report.SYSTEMS.items():
            value = report.overhead(found, system, 1, report.BATCH)
            if value is not None:
                print(f"{chosen.architecture}, {title}: {value:+.0f} %")


def write_networks(chosen, folder: str) -> dict:
    """Write the networks of an experiment, with random weights, in all formats.

    Returns:
      The members' precisions, and bytes of the files and of their weights.
    """
    from empir import export
    from empir.export import onnx_files, source
    from empir.models.ensemble import Ensemble
    from empir.runtime import tf

    with tf.Graph().as_default(), runtime.session(operations=1) as session:
        read = source.read(Ensemble(members(chosen, session)), chosen, session)
    shape = (100,) + read.network.input_shape
    noise = np.random.RandomState(0).uniform(*chosen.clip_range, size=shape)
    np.save(os.path.join(folder, "images.npy"), noise.astype(np.float32))
    runs.write_json(os.path.join(folder, "dataset.json"), chosen.dataset)
    if "pytorch" in FLAGS.systems:
        export.write(read, "pytorch", os.path.join(folder, "pytorch"))
    steps = [onnx_files.network_of(read.network, member) for member in read.members]
    sizes: dict = {}
    for precision, networks in TIMED.items():
        os.mkdir(os.path.join(folder, precision))
        for name in networks:
            number = NETWORKS[name]
            chosen_steps = steps if number is None else [steps[number]]
            if number is None:
                model, _ = onnx_files.ensemble_model(read, steps, precision)
            else:
                model = onnx_files.member_model(read, number, steps[number], precision)
            path = os.path.join(folder, precision, onnx_name(name))
            runs.write_atomically(path, model.SerializeToString())
            sizes[f"{name}, {precision}"] = dict(
                onnx_files.weight_sizes(chosen_steps), file=os.path.getsize(path)
            )
    precisions = [member.precision for member in read.members]
    return dict(dataset=chosen.dataset, members=precisions, bytes=sizes, resident_mb={})


def _commands(folder, python, threads):
    """Command lines of the workers."""
    commands = {}
    for name in FLAGS.systems:
        library, is_other, _ = SYSTEMS[name]
        program = python if is_other else sys.executable
        commands[name] = [program, "-m", "benchmarks.inference_worker", folder]
        commands[name] += [f"--library={library}", f"--threads={threads}"]
    return commands


def _measure(network, workers, threads, sizes):
    """Times of all systems; one cell for each system, network, precision and batch size."""
    asked = []
    for system, worker in workers.items():
        for precision in SYSTEMS[system][2]:
            for name in TIMED[precision]:
                loaded = worker.ask("load", network=name, precision=precision)["resident_mb"]
                title = f"{name}, {precision}, {system}"
                network["resident_mb"].setdefault(title, loaded)
                asked.append(dict(system=system, network=name, precision=precision))
    cells, per_image = [], 0.0
    for batch in sorted(sizes):
        if 1e-3 * per_image * batch > FLAGS.limit:
            continue
        made = [dict(each, threads=threads, batch=batch, milliseconds=[]) for each in asked]
        for turn in range(FLAGS.turns):
            for cell in made:
                if turn and 1e-3 * cell["milliseconds"][0] > FLAGS.once:
                    continue
                what = {key: cell[key] for key in ("network", "precision", "batch")}
                answer = workers[cell["system"]].ask("run", seconds=FLAGS.seconds, **what)
                cell["milliseconds"].append(round(answer["milliseconds"], 4))
        baseline = [cell for cell in made if cell["network"] == "baseline"]
        per_image = max(min(cell["milliseconds"]) / batch for cell in baseline)
        cells += made
    return cells


if __name__ == "__main__":
    commandline.run_main(setup)
