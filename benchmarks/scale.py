"""Measure how an attack's time per image and its memory depend on the number of images.

    python -m benchmarks.scale --data_dir=FOLDER --out=results/benchmark/scale.json

FOLDER holds MNIST's files. FGSM on the ensemble, by examples/mnist_attack.py, attacks 1,000, 10,000
and 100,000 images, each number in a process of its own. There are 10,000 test images; they are
repeated as often as needed, each time with other noise. Nothing else should run meanwhile.
"""

import logging
import os
import re
import time

import numpy as np
from absl import flags

from benchmarks import commands, startup, throughput
from benchmarks.pages import scale as report
from empir.commands import commandline, shared_flags
from empir.errors import EmpirError
from empir.experiments import experiment
from empir.records import runs

FLAGS = flags.FLAGS
log = logging.getLogger("empir")

#: Largest change of a pixel of 0..255 by noise.
NOISE = 8


def setup():
    """Define the flags; returns the main function."""
    shared_flags.define_data("data_dir")
    flags.DEFINE_list("images", ["1000", "10000", "100000"], "The numbers of images.")
    flags.DEFINE_string("attack", "fgsm", "fgsm, bim, pgd or cw.")
    flags.DEFINE_string("out", None, "The file of the record. By default it is only printed.")
    return run


def run(_):
    """Measure, print, and write the file.

    Raises:
      EmpirError: for flags out of range, or if an attack fails.
    """
    counts = [int(text) if re.match(r"[0-9]{1,7}\Z", text) else 0 for text in FLAGS.images]
    if min(counts, default=0) < 1:
        raise EmpirError(f"--images={','.join(FLAGS.images)}: integers of 1..9999999")
    if FLAGS.out is not None:
        runs.check_file(FLAGS.out)
    data = experiment("mnist").data.open("test", FLAGS.data_dir)
    record = dict(throughput.made(), attack=FLAGS.attack, runs=[])
    for count in sorted(counts):
        with runs.temporary_folder() as folder:
            path = os.path.join(folder, "images.npz")
            np.savez(path, **repeated(data.images[:], data.labels, count))
            record["runs"].append(dict(measure(path, FLAGS.attack, folder), images=count))
        log.info("%d images: %s", count, record["runs"][-1])
        if FLAGS.out:
            runs.write_json(FLAGS.out, record)
    print(report.table(record))


def repeated(images: np.ndarray, labels: np.ndarray, count: int) -> dict:
    """The arrays of a file of images that are repeated with noise until there are enough.

    Args:
      images: float32 [n, height, width, channels] in [0, 1].
      labels: int64 [n].
      count: number of images that are wanted.

    Returns:
      images: uint8 [count, height, width, channels], the first n without noise; labels [count].
    """
    random, levels = np.random.RandomState(0), np.round(images * 255).astype(np.int16)
    found = np.empty((count,) + images.shape[1:], np.uint8)
    for start in range(0, count, len(images)):
        part = levels[: count - start]
        noise = random.randint(-NOISE, NOISE + 1, part.shape, np.int16) if start else 0
        found[start : start + len(images)] = np.clip(part + noise, 0, 255)
    return {"images": found, "labels": np.resize(labels, count)}


def measure(path: str, attack: str, folder: str) -> dict:
    """Attack the images of a file in a process of its own.

    Args:
      path: the file.
      attack: name of the attack.
      folder: for the result.

    Returns:
      wall: seconds of the process; seconds: of its parts, from its record; peak_memory_mb: of the
      process; images_mb: that its images take in float32.

    Raises:
      EmpirError: if the process fails.
    """
    with np.load(path) as file:
        shape = file["images"].shape
    command = startup.example(attack) + [f"--data={path}", f"--nb_samples={shape[0]}"]
    command += [f"--out={os.path.join(folder, 'out')}"]
    began = time.perf_counter()
    commands.run_quietly(command)
    wall = time.perf_counter() - began
    record = runs.read_json(os.path.join(folder, "out", "result.json"))
    return {
        "wall": wall,
        "seconds": record["seconds"],
        "peak_memory_mb": record["peak_memory_mb"],
        "images_mb": 4 * int(np.prod(shape)) / 2**20,
    }


if __name__ == "__main__":
    commandline.run_main(setup)
