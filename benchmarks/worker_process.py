"""Worker processes of a benchmark, and whether they compute the same logits; see `protocol`."""

import contextlib
import json
import os
import subprocess
import tempfile
from typing import Dict, List, Optional

import numpy as np

from empir.errors import EmpirError
from empir.runtime import ROOT

#: Logits that differ by more between two systems are another level of a quantizer, not rounding.
SAME_LOGITS = 1e-3
#: Largest share of images with such a difference: where a value lies between two levels, the order
#: of a sum decides which one it is rounded to.
OTHER_LEVEL = 0.05
#: A difference that a record counts.
COUNTED = 1e-4


def pytorch_program(given: Optional[str]) -> str:
    """Path of the Python with PyTorch.

    Args:
      given: path, or None for the clone's own environment.

    Raises:
      EmpirError: if there is no such program.
    """
    path = given or os.path.join(ROOT, ".venv-pytorch", "bin", "python")
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise EmpirError(f"no program {path}: scripts/pytorch.sh makes it, or give --pytorch")
    return os.path.abspath(path)


class WorkerProcess:
    """A worker that runs in a process of its own.

    Args:
      name: of the system, for errors.
      command: words of the worker's command line; it starts in the clone.
      environment: variables that the process gets unless they are set already.
    """

    def __init__(self, name: str, command: List[str], environment: Optional[dict] = None):
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment or {}, **os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            universal_newlines=True,
        )

    def ask(self, do: str, **arguments) -> dict:
        """Send a command and wait for the answer; see `protocol`.

        Raises:
          EmpirError: if the command fails or the process ends.
        """
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(dict(arguments, do=do)) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": self._last_error()}
        if "error" in answer:
            raise EmpirError(f"{self.name}, asked to {do}: {answer['error']}")
        return answer

    def _last_error(self):
        self._process.wait()
        self._errors.seek(0)
        return self._errors.read().strip().split("\n")[-1] or "it ended without a message"

    def close(self):
        """End the process."""
        with contextlib.suppress(EmpirError, OSError):
            self.ask("quit")
        with contextlib.suppress(BrokenPipeError):  # a process that is dead leaves the pipe unread
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@contextlib.contextmanager
def started(commands: Dict[str, List[str]], environment: Optional[dict] = None):
    """Worker processes by name, which end with the block.

    Args:
      commands: name -> command line.
      environment: see `WorkerProcess`.
    """
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, command in commands.items():
            workers[name] = WorkerProcess(name, command, environment)
            stack.callback(workers[name].close)
        yield workers


def compare_logits(worker: WorkerProcess, own: np.ndarray) -> dict:
    """How a worker's logits differ from this project's.

    Args:
      worker: of another system.
      own: this project's logits of the same images, float32 [n, classes].

    Returns:
      {"max": largest difference, "images": number of images with one over `COUNTED`}.

    Raises:
      EmpirError: if the systems do not compute the same function.
    """
    difference = np.abs(np.array(worker.ask("logits")["logits"]) - own).max(axis=1)
    if np.mean(difference > SAME_LOGITS) > OTHER_LEVEL:
        raise EmpirError(f"{worker.name} computes other logits, by up to {difference.max():g}")
    return {"max": float(difference.max()), "images": int((difference > COUNTED).sum())}
