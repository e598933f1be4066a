"""What all workers share: the file of a workload, and commands and answers as lines of JSON.

Each system runs in a process and an environment of its own. Its worker reads commands from standard
input and answers on standard output, one JSON object per line:

    {"do": "environment"}       {"versions": {"python": "3.7.17", ...}, "threads": 2}
    {"do": "logits"}            {"logits": [[...], ...]}, of the first 100 images
    {"do": "prepare", "attack": "pgd", "batch_size": 100, "parameters": {"eps": 0.3, ...}}
                                {"available": true, "seconds": 2.1}, or
                                {"available": false, "reason": "..."}
    {"do": "run"}               {"seconds": 0.8, "success": 0.99, ...}, of the prepared attack
    {"do": "train", "member": 0, "batch_size": 128, "steps": 20}
                                {"seconds": 1.5}
    {"do": "gemm", "size": 2048}
                                {"seconds": 0.1}
    {"do": "quit"}              {}
    whatever fails              {"error": "one line"}, and the worker goes on

A `Worker` of another purpose has commands of its own beside them.

Needs NumPy alone and runs on any Python from 3.7, for environments without TensorFlow.
"""

import argparse
import contextlib
import json
import os
import sys
import time
import traceback
from typing import Callable, Dict, List, NamedTuple, Optional

import numpy as np

JUDGED = 100  # images whose logits, success and norms are told
UNTIMED_STEPS = 3


class Workload(NamedTuple):
    """What all systems are given.

    Attributes:
      architecture: "MNISTconv" or "CIFARconv".
      images: float32 [n, height, width, channels] in [0, 1].
      labels: int64 [n], the classes to move away from.
      members: per member {"weight_bits": 2, "activation_bits": 4}, of its convolutions; None = full
        precision. Linear layers are never quantized.
      weights: per member, name ("conv1/kernel") -> latent float32 weights: [height, width, in, out]
        of a convolution, [in, out] of a linear layer.
    """

    architecture: str
    images: np.ndarray
    labels: np.ndarray
    members: List[Dict[str, Optional[int]]]
    weights: List[Dict[str, np.ndarray]]

    def batch(self, size: int):
        """The first `size` images and labels, from the start again where there are fewer."""
        rows = np.arange(size) % len(self.labels)
        return self.images[rows], self.labels[rows]


def write_workload(path: str, workload: Workload):
    """Write a workload as one file PATH.npz; `path` ends in that."""
    weights = {
        "%d/%s" % (number, name): array
        for number, arrays in enumerate(workload.weights)
        for name, array in arrays.items()
    }
    np.savez(
        path,
        architecture=workload.architecture,
        images=np.asarray(workload.images, np.float32),
        labels=np.asarray(workload.labels, np.int64),
        members=json.dumps(workload.members),
        **weights,
    )


def read_workload(path: str) -> Workload:
    """The workload of `write_workload`'s file."""
    with np.load(path) as file:
        members = json.loads(str(file["members"]))
        weights = [{} for _ in members]
        for key in file.files:
            number, _, name = key.partition("/")
            if name:
                weights[int(number)][name] = file[key]
        return Workload(str(file["architecture"]), file["images"], file["labels"], members, weights)


class Unavailable(Exception):
    """A system does not have an attack, or not with these parameters; the message says why."""


class System:
    """What a worker times: an ensemble whose decision is the argmax of its members' mean logits.

    `attack`, `training` and `gemm` are context managers that build all that can be built before,
    give a function to be timed, and release it.

    Attributes:
      forward_passes: how often the ensemble has been evaluated so far; None if not counted.
    """

    forward_passes: Optional[int] = None

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Mean of the members' logits, float32 [n, classes]."""
        raise NotImplementedError

    def attack(self, name: str, parameters: dict, images: np.ndarray, labels: np.ndarray):
        """Gives a function that attacks the images and returns float32 [n, h, w, c].

        Args:
          name: "fgsm", "bim", "pgd" or "cw".
          parameters: by CleverHans' names; "seed" where the start is random and can be seeded.
          images, labels: the batch, as in `Workload`.

        Raises:
          Unavailable: if the system cannot do that.
        """
        raise NotImplementedError

    def training(self, member: int, images: np.ndarray, labels: np.ndarray):
        """Gives a function that trains a fresh member by one step of Adam on that batch."""
        raise NotImplementedError

    def gemm(self, size: int):
        """Gives a function that multiplies two float32 matrices of that size."""
        raise NotImplementedError

    def environment(self) -> dict:
        """Versions of what the system is made of, and its number of threads."""
        raise NotImplementedError


class Worker:
    """Answers the commands about a system."""

    def __init__(self, system: System, workload: Workload):
        self._system = system
        self._workload = workload
        self._prepared = contextlib.ExitStack()
        self._attack = None
        self._batch = None
        self._commands: Dict[str, Callable] = {
            "environment": system.environment,
            "logits": self._logits,
            "prepare": self._prepare,
            "run": self._run,
            "train": self._train,
            "gemm": self._gemm,
            "quit": self._quit,
        }
        self.done = False

    def answer(self, line: str) -> dict:
        """Do what a line says; failures are part of the answer."""
        try:
            command = json.loads(line)
            name = command.pop("do", None)
            if name not in self._commands:
                known = ", ".join(self._commands)
                raise ValueError("command %r: choose from %s" % (name, known))
            return self._commands[name](**command)
        except Unavailable as error:
            return {"available": False, "reason": str(error)}
        except Exception as error:
            traceback.print_exc()
            return {"error": "%s: %s" % (type(error).__name__, " ".join(str(error).split()))}

    def _logits(self):
        return {"logits": self._system.logits(self._workload.images[:JUDGED]).tolist()}

    def _prepare(self, attack, batch_size, parameters):
        self._prepared.close()
        self._attack = None
        self._batch = self._workload.batch(batch_size)
        began = time.perf_counter()
        manager = self._system.attack(attack, parameters, *self._batch)
        self._attack = self._prepared.enter_context(manager)
        return {"available": True, "seconds": time.perf_counter() - began}

    def _run(self):
        if self._attack is None:
            raise ValueError("no attack is prepared")
        passes = self._system.forward_passes
        tracked = _forget_peak_memory()
        began = time.perf_counter()
        adversarial = self._attack()
        seconds = time.perf_counter() - began
        peak = _peak_memory_mb() if tracked else None
        if passes is not None:
            passes = self._system.forward_passes - passes
        return dict(
            self._judge(np.asarray(adversarial[:JUDGED])),
            seconds=seconds,
            peak_memory_mb=peak,
            forward_passes=passes,
        )

    def _judge(self, adversarial):
        images, labels = (array[:JUDGED] for array in self._batch)
        decisions = np.argmax(self._system.logits(adversarial), axis=1)
        perturbations = (adversarial - images).reshape(len(images), -1)
        return {
            "success": float(np.mean(decisions != labels)),
            "mean_l2": float(np.mean(np.linalg.norm(perturbations, axis=1))),
            "mean_linf": float(np.mean(np.max(np.abs(perturbations), axis=1))),
        }

    def _train(self, member, batch_size, steps):
        with self._system.training(member, *self._workload.batch(batch_size)) as step:
            return {"seconds": _time(step, UNTIMED_STEPS, steps)}

    def _gemm(self, size):
        with self._system.gemm(size) as multiply:
            return {"seconds": _time(multiply, 1, 1)}

    def _quit(self):
        self._prepared.close()
        self.done = True
        return {}


def _time(call, untimed, timed):
    """Seconds of `timed` calls after `untimed` ones."""
    for _ in range(untimed):
        call()
    began = time.perf_counter()
    for _ in range(timed):
        call()
    return time.perf_counter() - began


def _forget_peak_memory():
    """Make the present resident memory the peak; whether this system can."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return True
    except OSError:
        return False


def _peak_memory_mb():
    """Largest resident memory since `_forget_peak_memory`, in units of 2^20 bytes."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) / 1024, 1)


def parser(description: str, libraries=()) -> argparse.ArgumentParser:
    """Command line of a worker: the workload, whose attacks to use if it may choose, threads."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("workload", help="file that write_workload wrote")
    if libraries:
        made.add_argument("--library", choices=sorted(libraries), required=True)
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return made


def serve(create: Callable[[Workload], System], path: str, worker_class=Worker):
    """Answer the commands on standard input until "quit" or its end.

    Args:
      create: makes the system; whatever it or a library prints goes to standard error.
      path: the workload's file.
      worker_class: what answers, a `Worker`.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    workload = read_workload(path)
    worker = worker_class(create(workload), workload)
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(line)) + "\n")
        answers.flush()
        if worker.done:
            break
