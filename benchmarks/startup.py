"""How long a user waits for an example script, from the start of the process to its result."""

import functools
import itertools
import os
import sys
from typing import Dict, Optional

import numpy as np

from benchmarks import commands
from benchmarks.throughput import median_seconds_in_turns
from empir.experiments import experiment
from empir.records import runs

#: What a process does before it reads data, stage after stage.
STAGES = {
    "python": "pass",
    "import numpy": "import numpy",
    "import tensorflow, keras and cleverhans": "from empir.runtime import keras, tf; "
    "import cleverhans.attacks",
    "import empir": "import empir.evaluation.runner, empir.models.member",
}


def measure(data_dir: Optional[str], repeats: int) -> dict:
    """Median seconds of FGSM on 100 MNIST images by examples/mnist_attack.py, and of its parts.

    The processes that end after a stage and the whole command take turns, so that load on the
    machine slows all of them.

    Args:
      data_dir: folder that holds the folder mnist, or None.
      repeats: timed turns; one more, which is not timed, fills the file cache.

    Returns:
      {"total": seconds of the process, "parts": {part: seconds}}; the parts sum to the total.

    Raises:
      EmpirError: for a process that fails, with its last line.
    """
    statements = itertools.accumulate(STAGES.values(), "{}; {}".format)
    stages = [
        functools.partial(commands.run_quietly, [sys.executable, "-c", text]) for text in statements
    ]
    command = example("fgsm") + ["--nb_samples=100"]
    folder_of_data = commands.data_folder(data_dir, "mnist")
    command += [f"--data_dir={folder_of_data}"] if folder_of_data else []
    with runs.temporary_folder() as folder:
        outs = [os.path.join(folder, str(turn)) for turn in range(repeats + 1)]
        waiting = iter(outs)
        whole = [lambda: commands.run_quietly(command + [f"--out={next(waiting)}"])]
        *seconds, total = median_seconds_in_turns(stages + whole, repeats)
        records = [runs.read_json(os.path.join(out, "result.json"))["seconds"] for out in outs[1:]]
    told = {name: float(np.median([record[name] for record in records])) for name in records[0]}
    return {"total": total, "parts": parts(dict(zip(STAGES, seconds)), told, total)}


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
