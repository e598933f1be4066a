"""The protocol between a benchmark and its workers: the workload's file, commands and answers.

Each library runs in a worker: a process in an environment of its own. A worker reads commands from
standard input and answers on standard output, one JSON object per line:

    {"do": "environment"}       {"versions": {"python": "3.7.17", ...}, "threads": 2}
    {"do": "logits"}            {"logits": [[...], ...]}, of the first 100 images
    {"do": "prepare", "attack": "pgd", "batch_size": 100, "parameters": {"eps": 0.3, ...}}
                                {"available": true, "seconds": 2.1}, or
                                {"available": false, "reason": "..."}
    {"do": "run", "at_least": 0.3}
                                {"seconds": 0.8, "success": 0.99, ...}, of the prepared attack; it
                                is repeated for 0.3 s, and the median counts
    {"do": "train", "member": 0, "batch_size": 128, "steps": 20}
                                {"seconds": 1.5}
    {"do": "gemm", "size": 2048}
                                {"seconds": 0.1}
    {"do": "quit"}              {}

A command that fails is answered with {"error": "one line"}, and the worker continues. The worker of
AutoAttack has two more commands, and the one of convolutions others.

This module needs NumPy alone and runs on any Python from 3.7, because the PyTorch environment has
neither TensorFlow nor Python 3.7.
"""

import argparse
import contextlib
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np

#: Logits, success rates and norms are those of this many images.
MEASURED_IMAGES = 100
UNTIMED_STEPS = 3


@dataclass(frozen=True)
class Workload:
    """The networks and images that all systems are given.

    Attributes:
      architecture: "MNISTconv" or "CIFARconv".
      images: float32 [n, height, width, channels] in [0, 1].
      labels: int64 [n], the true classes.
      members: per member the bits of its convolutions, {"weight_bits": 2, "activation_bits": 4};
        None is full precision. Linear layers are never quantized.
      weights: per member, name ("conv1/kernel") -> latent float32 weights: [height, width, in, out]
        of a convolution, [in, out] of a linear layer.
    """

    architecture: str
    images: np.ndarray
    labels: np.ndarray
    members: List[Dict[str, Optional[int]]]
    weights: List[Dict[str, np.ndarray]]

    def batch(self, size: int) -> Tuple[np.ndarray, np.ndarray]:
        """The first `size` images and labels; they repeat where there are fewer."""
        rows = np.arange(size) % len(self.labels)
        return self.images[rows], self.labels[rows]


def write_workload(path: str, workload: Workload):
    """Write a workload as one .npz file; `path` ends in ".npz"."""
    weights = {
        f"{number}/{name}": array
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
    """Read the file that `write_workload` wrote."""
    with np.load(path) as file:
        members = json.loads(str(file["members"]))
        weights = [{} for _ in members]
        for key in file.files:
            number, _, name = key.partition("/")
            if name:
                weights[int(number)][name] = file[key]
        return Workload(str(file["architecture"]), file["images"], file["labels"], members, weights)


class Unavailable(Exception):
    """A system lacks an attack, or lacks it with these parameters; the message says why."""


class System:
    """A library's attacks on an ensemble that decides by the argmax of its members' mean logits.

    `attack`, `training` and `gemm` are context managers. They build everything that can be built
    before, yield a function to be timed, and release what they built.

    Attributes:
      forward_passes: number of evaluations of the ensemble so far; None if they are not counted.
    """

    forward_passes: Optional[int] = None

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Mean of the members' logits, float32 [n, classes]."""
        raise NotImplementedError

    def attack(self, name: str, parameters: dict, images: np.ndarray, labels: np.ndarray):
        """Yield a function that attacks the images and returns float32 [n, h, w, c].

        Args:
          name: "fgsm", "bim", "pgd" or "cw".
          parameters: by CleverHans' names, with "seed" where the start is random.
          images, labels: the batch, as in `Workload`.

        Raises:
          Unavailable: if the system cannot do that.
        """
        raise NotImplementedError

    def training(self, member: int, images: np.ndarray, labels: np.ndarray):
        """Yield a function that trains a fresh member by one step of Adam on that batch."""
        raise NotImplementedError

    def gemm(self, size: int):
        """Yield a function that multiplies two float32 matrices of that size."""
        raise NotImplementedError

    def environment(self) -> dict:
        """{"versions": by package, "threads": number of threads}."""
        raise NotImplementedError


class Answering:
    """Answers commands, of which "quit" is the last.

    Attributes:
      done: whether the command "quit" came.
    """

    done = False

    def commands(self) -> Dict[str, Callable[..., dict]]:
        """Name of a command -> function of its other keys that returns the answer."""
        return {"quit": self._quit}

    def answer(self, line: str) -> dict:
        """Carry out the command in a line; an error is an answer, too."""
        try:
            command, known = json.loads(line), self.commands()
            name = command.pop("do", None)
            if name not in known:
                raise ValueError(f"command {name!r}: choose from {', '.join(known)}")
            return known[name](**command)
        except Unavailable as error:
            return {"available": False, "reason": str(error)}
        except Exception as error:
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}

    def _quit(self):
        self.done = True
        return {}


class Worker(Answering):
    """Answers commands about a system.

    Attributes:
      system, workload: what the commands are about.
    """

    def __init__(self, system: System, workload: Workload):
        self.system = system
        self.workload = workload
        self._prepared = contextlib.ExitStack()
        self._attack = None
        self._batch = None

    def commands(self):
        """See `Answering`."""
        return {
            "environment": self.system.environment,
            "logits": self._logits,
            "prepare": self._prepare,
            "run": self._run,
            "train": self._train,
            "gemm": self._gemm,
            **super().commands(),
        }

    def _quit(self):
        self._prepared.close()
        return super()._quit()

    def _logits(self):
        return {"logits": self.system.logits(self.workload.images[:MEASURED_IMAGES]).tolist()}

    def _prepare(self, attack, batch_size, parameters):
        self._prepared.close()
        self._attack = None
        self._batch = self.workload.batch(batch_size)
        began = time.perf_counter()
        manager = self.system.attack(attack, parameters, *self._batch)
        self._attack = self._prepared.enter_context(manager)
        return {"available": True, "seconds": time.perf_counter() - began}

    def _run(self, at_least=0.0):
        if self._attack is None:
            raise ValueError("no attack is prepared")
        passes = self.system.forward_passes
        tracked = _forget_peak_memory()
        measured = []
        while sum(measured) < at_least or not measured:
            began = time.perf_counter()
            adversarial = self._attack()
            measured.append(time.perf_counter() - began)
        peak = _peak_memory_mb() if tracked else None
        if passes is not None:
            passes = (self.system.forward_passes - passes) / len(measured)
        return dict(
            self._success_and_norms(np.asarray(adversarial[:MEASURED_IMAGES])),
            seconds=float(np.median(measured)),
            peak_memory_mb=peak,
            forward_passes=passes,
        )

    def _success_and_norms(self, adversarial):
        images, labels = (array[:MEASURED_IMAGES] for array in self._batch)
        decisions = np.argmax(self.system.logits(adversarial), axis=1)
        perturbations = (adversarial - images).reshape(len(images), -1)
        return {
            "success": float(np.mean(decisions != labels)),
            "mean_l2": float(np.mean(np.linalg.norm(perturbations, axis=1))),
            "mean_linf": float(np.mean(np.max(np.abs(perturbations), axis=1))),
        }

    def _train(self, member, batch_size, steps):
        with self.system.training(member, *self.workload.batch(batch_size)) as step:
            return {"seconds": seconds_of(step, UNTIMED_STEPS, steps)}

    def _gemm(self, size):
        with self.system.gemm(size) as multiply:
            return {"seconds": seconds_of(multiply, 1, 1)}


def seconds_of(call: Callable, untimed: int, timed: int) -> float:
    """Seconds that `timed` calls take, after `untimed` ones."""
    for _ in range(untimed):
        call()
    began = time.perf_counter()
    for _ in range(timed):
        call()
    return time.perf_counter() - began


def _forget_peak_memory():
    """Make the present resident memory the peak; returns whether the operating system can."""
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
    """Command line of a worker: the workload, the library if there are several, and threads."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("workload", help="file that write_workload wrote")
    if libraries:
        made.add_argument("--library", choices=sorted(libraries), required=True)
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return made


def serve(create: Callable[[Workload], System], path: str, worker_class=Worker):
    """Answer the commands on standard input until "quit" or the end of the input.

    Args:
      create: makes the system. Whatever it or a library prints goes to standard error.
      path: the workload's file.
      worker_class: `Worker`, or a subclass that knows more commands.
    """

    def make():
        workload = read_workload(path)
        return worker_class(create(workload), workload)

    answer_commands(make)


def answer_commands(make: Callable[[], Answering]):
    """Answer the commands on standard input until "quit" or the end of the input.

    Args:
      make: makes the worker, an `Answering`. Whatever it or a library prints goes to standard
        error.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = make()
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(line)) + "\n")
        answers.flush()
        if worker.done:
            break
