"""Measure what workers of a Dask scheduler gain and cost, beside one process.

    python -m benchmarks.cluster --data_dir=FOLDER --out=results/benchmark/cluster.json

FOLDER holds MNIST's files. Three things are measured:

- PGD on MNIST's shipped ensemble by one process with two threads and by two workers of one thread,
  on two numbers of images, whose difference gives the rate without the time before all runs;
- what handing out a chunk and bringing back its arrays takes, by chunks in which nothing is
  computed, with two workers;
- the same with many workers. They are threads of one process, which is the scheduler's too, so that
  as many processes on machines of their own take less.
"""

import contextlib
import functools
import logging
import os
import resource
import subprocess
import sys
import threading
import time

import numpy as np
from absl import flags

from benchmarks import throughput
from empir import runtime
from empir.commands import commandline, shared_flags
from empir.commands.shared_flags import define_count
from empir.data import mnist
from empir.errors import EmpirError
from empir.records import runs

FLAGS = flags.FLAGS


def setup():
    """Define the flags; returns the main function."""
    shared_flags.define_data("data_dir")
    define_count("images", 2000, "The larger number of images; the smaller is a quarter of it.")
    define_count("chunks", 1000, "The number of chunks in which nothing is computed.")
    define_count("many", 512, "The number of workers whose scheduling is measured.")
    flags.DEFINE_bool(
        "busy", False, "Note in the record that the machine did something else meanwhile."
    )
    flags.DEFINE_string("out", None, "The file of the record. By default it is only printed.")
    return run


def run(_):
    """Measure, print, and write the file.

    Raises:
      EmpirError: for flags out of range, or if a command fails.
    """
    if FLAGS.images < 800:
        raise EmpirError(
            f"--images={FLAGS.images}: a quarter must be some chunks; give 800 or more"
        )
    if FLAGS.out is not None:
        runs.check_file(FLAGS.out)
    record = measure()
    for name in ("process", "workers"):
        text = "%(rate).1f images/s, and %(startup).1f s before that"
        print(f"{name}: {text % record[name]}")
    print(f"overhead: {1000 * record['overhead']:.2f} ms per chunk with 2 workers")
    many = record["many"]
    print(f"overhead: {1000 * many['overhead']:.2f} ms per chunk with {many['workers']} workers")
    if FLAGS.out is not None:
        runs.write_json(FLAGS.out, record)
    return 0


def measure() -> dict:
    """The record of all measurements; seconds, and images per second."""
    return {
        "process": _line("--num_threads=2"),
        "workers": _line("--scheduler=local:2", "--num_threads=1"),
        "overhead": _overhead(local=2),
        "many": {"workers": FLAGS.many, "overhead": _overhead(threads=FLAGS.many)},
        "images": FLAGS.images,
        "chunks": FLAGS.chunks,
        "busy": FLAGS.busy,
        **throughput.made(),
    }


def _line(*options):
    """Images per second of a command, and its seconds at no images, from two numbers of images."""
    counts = (FLAGS.images // 4, FLAGS.images)
    seconds = [_command(count, options) for count in counts]
    each = (seconds[1] - seconds[0]) / (counts[1] - counts[0])
    return {"rate": 1 / each, "startup": seconds[0] - counts[0] * each, "seconds": seconds}


def _command(count, options):
    """Seconds of the attack on so many images, from the start of the process to its end."""
    folder = os.path.join(runtime.ROOT, "checkpoints", "mnist")
    members = (f"w2a4:{folder}/model1-w2a4", f"w2a4:{folder}/model2-w2a4", f"fp:{folder}/model3-fp")
    words = [sys.executable, "-m", "empir", "attack", "--attack=pgd", f"--nb_samples={count}"]
    words += ["--members=" + ",".join(members), "--noprogress", *options]
    words += [f"--data_dir={FLAGS.data_dir}"] if FLAGS.data_dir else []
    began = time.perf_counter()
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise EmpirError(f"{' '.join(words)} failed: {done.stderr.decode('utf8')[-500:]}")
    return time.perf_counter() - began


@contextlib.contextmanager
def nothing(open, data):
    """What computes chunks in which nothing is computed; see `places.Place.computing`."""
    yield lambda number: {"seconds": np.zeros(1), "number": np.array(number)}


def _overhead(local=0, threads=0):
    """Seconds per chunk in which nothing is computed, with processes here or with threads."""
    from benchmarks import cluster as own  # which workers can import, unlike __main__
    from empir.cluster import connection, driver, work
    from empir.evaluation.subjects import Source

    logging.getLogger("empir.cluster").setLevel(logging.WARNING)  # not a line for each of many
    runtime.configure(1, 100)
    data = mnist.load(sample=True).first(1)
    load = functools.partial(mnist.load, "test", None, sample=True)
    subject = work.Subject(Source("MNISTconv"), data.describe(), 1, load, 100)
    with contextlib.ExitStack() as stack:
        target = f"local:{local}"
        if threads:
            folder = stack.enter_context(runs.temporary_folder())
            target = os.path.join(folder, "scheduler.json")
            process = _threads(threads, target)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        connected = connection.Connection(target)
        stack.callback(connected.close)
        made = driver.OnWorkers(connected, subject, data, threads=1, least=local or threads)
        each = made.computing(None, own.nothing)
        calls = [functools.partial(tuple, (n,)) for n in range(max(FLAGS.chunks, 4 * threads))]
        list(each(calls[:100]))  # the work is open on all of them then
        began = time.perf_counter()
        list(each(calls))
        return (time.perf_counter() - began) / len(calls)


def _threads(count, path):
    """A process that is a scheduler and so many workers; its address gets into the file."""
    code = f"from benchmarks import cluster; cluster.serve({count}, {path!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=runtime.ROOT)
    while not os.path.exists(path):
        if process.poll() is not None:
            raise EmpirError(f"{count} workers cannot be started")
        time.sleep(0.5)
    return process


def serve(count: int, path: str):
    """Be a scheduler and its workers, until the process is ended.

    Args:
      count: of workers.
      path: of the scheduler file to write.
    """
    import dask
    import distributed

    # Each worker looks at itself fifty times a second, and at its threads a hundred times.
    seldom = dict.fromkeys(
        (
            "distributed.worker.profile.interval",
            "distributed.worker.profile.cycle",
            "distributed.admin.system-monitor.interval",
            "distributed.admin.tick.interval",
        ),
        "1h",
    )
    dask.config.set({**seldom, "distributed.admin.tick.limit": "2h"})
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cluster = distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        memory_limit=0,
        dashboard_address="127.0.0.1:0",
        local_directory=os.path.dirname(path),
    )
    runs.write_json(path, {"address": cluster.scheduler_address})
    threading.Event().wait()


if __name__ == "__main__":
    commandline.run_main(setup)
