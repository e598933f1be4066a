"""How long a user waits for an example script, from the start of the process to its result."""

import os
import subprocess
import sys
import time
from typing import Dict, Optional

import numpy as np

from empir.errors import EmpirError
from empir.experiments import experiment
from empir.records import runs
from empir.runtime import ROOT

#: What a process does before it reads data, each stage including those before it.
STAGES = {
    "python": "pass",
    "import numpy": "import numpy",
    "import tensorflow and keras": "from empir.runtime import keras, tf",
    "import cleverhans": "from empir.runtime import keras, tf; import cleverhans.attacks",
    "import empir": "import empir.evaluation.runner, empir.models.member",
}


def measure(data_dir: Optional[str], repeats: int) -> dict:
    """Median seconds of FGSM on 100 MNIST images by examples/mnist_attack.py, and of its parts.

    Args:
      data_dir: folder that holds the folder mnist, or None.
      repeats: timed runs of each; one more, which is not timed, fills the file cache.

    Returns:
      {"total": seconds of the process, "parts": {part: seconds}}; the parts sum to the total.
    """
    stages = {
        name: _median_seconds([sys.executable, "-c", statement], repeats)
        for name, statement in STAGES.items()
    }
    with runs.temporary_folder() as folder:
        command = example("fgsm") + ["--nb_samples=100"]
        command += [f"--data_dir={os.path.join(data_dir, 'mnist')}"] if data_dir else []
        total = _median_seconds(command, repeats, folder)
        record = runs.read_json(os.path.join(folder, str(repeats), "result.json"))
    return {"total": total, "parts": parts(stages, record["seconds"], total)}


def parts(stages: Dict[str, float], seconds: Dict[str, float], total: float) -> Dict[str, float]:
    """Seconds of each part of a process.

    Args:
      stages: name of each stage -> seconds of a process that ends after it, in order.
      seconds: of the graph ("build"), the clean logits and the attack, from the record.
      total: seconds of the whole process.
    """
    found, before = {}, 0.0
    for name, after in stages.items():
        found[name], before = after - before, after
    found["graph"] = seconds["build"]
    found["clean logits, first call"] = seconds["clean"]
    found["attack, first call"] = seconds["attack"]
    found["data, members and the record"] = total - sum(found.values())
    return found


def example(attack: str) -> list:
    """Words of the command that attacks MNIST's ensemble; it says neither images nor --out."""
    chosen = experiment("mnist")
    command = [sys.executable, os.path.join("examples", "mnist_attack.py"), "--noprogress"]
    command += [f"--attack={attack}", "--ensembleThree"]
    command += ["--wbits=2", "--abits=4", "--wbits2=2", "--abits2=4"]
    for number, (name, _) in enumerate(chosen.members, 1):
        command.append(f"--model_path{number}={os.path.join('checkpoints', 'mnist', name)}")
    return command


def _median_seconds(command, repeats, out=None):
    """Median seconds of a process; with `out`, run i writes its result to the folder out/i."""
    seconds = []
    for number in range(repeats + 1):
        own = command + ([f"--out={os.path.join(out, str(number))}"] if out else [])
        began = time.perf_counter()
        process = subprocess.run(own, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        seconds.append(time.perf_counter() - began)
        if process.returncode:
            raise EmpirError(process.stderr.decode().strip().split("\n")[-1])
    return float(np.median(seconds[1:]))
