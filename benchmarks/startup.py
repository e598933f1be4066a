"""How long a user waits: an example script from the start of the process to its result."""

import json
import os
import subprocess
import sys
import time

import numpy as np

from empir.errors import EmpirError
from empir.experiments import experiment
from empir.records import runs
from empir.runtime import ROOT

#: What a process does before it reads data, one after the other, as seconds of the whole process.
STAGES = (
    ("python", "pass"),
    ("numpy", "import numpy"),
    ("tensorflow and keras", "from empir.runtime import tf"),
    ("cleverhans", "from empir.runtime import tf; import cleverhans.attacks"),
    ("empir", "from empir.runtime import tf; import empir.evaluation.runner, empir.models.loading"),
)


def measure(data_dir, repeats: int) -> dict:
    """Median seconds of FGSM on 100 MNIST images by examples/mnist_attack.py, and of its parts.

    Args:
      data_dir: folder that holds the folder mnist, or None.
      repeats: runs of each; one more, untimed, fills the file cache.

    Returns:
      {"total": seconds of the process, "parts": {part: seconds}}; parts sum to the total.
    """
    before = 0.0
    parts = {}
    for name, statement in STAGES:
        seconds = _median([sys.executable, "-c", statement], repeats)
        parts["import " + name if name != "python" else name] = seconds - before
        before = seconds
    with runs.temporary_folder() as folder:
        command = _example(data_dir)
        total = _median(command, repeats, folder)
        with open(os.path.join(folder, "%d" % repeats, "result.json")) as file:
            record = json.load(file)
    parts["graph"] = record["seconds"]["build"]
    parts["clean logits, first call"] = record["seconds"]["clean"]
    parts["attack, first call"] = record["seconds"]["attack"]
    parts["data, members and the record"] = total - sum(parts.values())
    return {"total": total, "parts": parts}


def _example(data_dir):
    chosen = experiment("mnist")
    command = [sys.executable, os.path.join("examples", "mnist_attack.py"), "--noprogress"]
    command += ["--attack=fgsm", "--nb_samples=100", "--ensembleThree"]
    command += ["--wbits=2", "--abits=4", "--wbits2=2", "--abits2=4"]
    command += ["--data_dir=" + os.path.join(data_dir, "mnist")] if data_dir else []
    for number, (name, _) in enumerate(chosen.members, 1):
        command.append("--model_path%d=%s" % (number, os.path.join("checkpoints", "mnist", name)))
    return command


def _median(command, repeats, out=None):
    """Median seconds of a process; with `out`, run i writes its result to the folder out/i."""
    seconds = []
    for number in range(repeats + 1):
        own = command + (["--out=" + os.path.join(out, "%d" % number)] if out else [])
        began = time.perf_counter()
        process = subprocess.run(own, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        seconds.append(time.perf_counter() - began)
        if process.returncode:
            raise EmpirError(process.stderr.decode().strip().split("\n")[-1])
    return float(np.median(seconds[1:]))
