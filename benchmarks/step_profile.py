"""Measure the time of each kind of operation in a step of an attack, by layers and by the engine.

    python -m benchmarks.step_profile --dataset=mnist --out=results/benchmark/account-mnist.json

The times are TensorFlow's own trace of BIM on the experiment's ensemble with random weights. A part
of the images runs one operation at a time, so the sum of the operations' times, divided by the
number of parts that run side by side, is the time of the step.
"""

import collections
import time
from typing import Optional

import numpy as np
from absl import flags

from benchmarks import throughput
from benchmarks.pages import speed as report
from empir import runtime
from empir.commands import commandline, shared_flags
from empir.commands.shared_flags import define_count
from empir.experiments import EXPERIMENTS, experiment
from empir.records import runs

FLAGS = flags.FLAGS

#: TensorFlow's operation, without oneDNN's prefix -> its kind in the record.
KINDS = {
    "Conv2D": "convolutions, forward",
    "Conv2DBackpropInput": "convolutions, input gradient",
    "PadWithConv2D": "convolutions, input gradient",
    "MatMul": "matrix products",
    "MaxPool": "pools",
    "MaxPoolGrad": "pools",
    "AvgPool": "pools",
    "AvgPoolGrad": "pools",
    "Relu": "rectifiers",
    "ReluGrad": "rectifiers",
    "ToTf": "layout changes",
    "InputConversion": "layout changes",
    "Reshape": "layout changes",
    "SpaceToDepth": "layout changes",
    "DepthToSpace": "layout changes",
}
OTHER = "quantizers, steps and other elementwise operations"
#: Operations that only run other operations, which are counted.
CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def setup():
    """Define the flags; returns the main function."""
    flags.DEFINE_string("dataset", "mnist", "whose ensemble: " + ", ".join(EXPERIMENTS))
    define_count("batch_size", 100, "images")
    shared_flags.define_threads()
    flags.DEFINE_string("out", None, "JSON file of the result; default: none")
    return run


def run(_):
    """Measure, print, and write the file.

    Raises:
      EmpirError: for an unknown name, or a folder that cannot be written.
    """
    chosen = experiment(FLAGS.dataset)
    if FLAGS.out is not None:
        runs.check_file(FLAGS.out)
    runtime.configure(FLAGS.num_threads, FLAGS.batch_size)
    record = {"engine": measure(chosen, FLAGS.batch_size, True)}
    record["layers"] = measure(chosen, FLAGS.batch_size, False)
    record.update(throughput.made(), dataset=chosen.dataset, batch_size=FLAGS.batch_size)
    if FLAGS.out:
        runs.write_json(FLAGS.out, record)
    for kind, (layers, engine) in report.operations(record).items():
        print(f"{kind:52} by layers {layers:6.2f} ms, by the engine {engine:6.2f} ms")


def measure(chosen, batch_size: int, engine: bool) -> dict:
    """Milliseconds of one step of BIM.

    Args:
      chosen: the experiment.
      batch_size: images.
      engine: whether `empir.fast.engine` computes the networks, instead of Keras' layers.

    Returns:
      {"milliseconds": by kind of operation, "step": of the whole step, which was not traced}.
    """
    from empir.models.ensemble import Ensemble
    from empir.runtime import tf

    with tf.Graph().as_default(), runtime.session(operations=1) as session:
        ensemble = Ensemble(throughput.members(chosen, session, engine))
        fetch, feed = throughput.attack_graph(chosen, "bim", ensemble, batch_size, session)
        seconds = []
        for _ in range(4):
            began = time.perf_counter()
            session.run(fetch, feed)
            seconds.append(time.perf_counter() - began)
        trace = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        session.run(fetch, feed, options=options, run_metadata=trace)
    milliseconds = collections.Counter()
    for device in trace.step_stats.dev_stats:
        for node in device.node_stats:
            kind = operation_kind(node.timeline_label, node.node_name)
            if kind is not None:
                spent = (node.op_end_rel_micros - node.op_start_rel_micros) / 1e3
                milliseconds[kind] += spent / chosen.nb_iter / runtime.share_count()
    whole = 1e3 * float(np.median(seconds[1:])) / chosen.nb_iter
    return {"milliseconds": dict(milliseconds), "step": whole}


def operation_kind(label: str, name: str) -> Optional[str]:
    """Kind of an operation of a trace; None if it only runs others.

    Args:
      label: "name = Operation(inputs)"; without " = " the operation's name counts.
      name: of the operation.
    """
    operation = label.split(" = ")[-1].split("(")[0] if " = " in label else name
    if operation in CALLS:
        return None
    return KINDS.get(operation.replace("_Mkl", ""), OTHER)


if __name__ == "__main__":
    commandline.run_main(setup)
