"""The comparison of systems: what is run, in which turns, and where it is kept."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple, Optional

import numpy as np

from benchmarks import protocol
from empir import runtime
from empir.errors import EmpirError
from empir.experiments import default_parameters, experiment
from empir.nn import architecture, weights
from empir.nn.cost import multiplications
from empir.records import runs
from empir.runtime import ROOT

log = logging.getLogger("empir")

#: PyTorch's; the faster of its two for all of these networks, by trial.
MEMORY_FORMAT = "channels_last"
IMAGES = 500  # test images that batches are taken from
GEMM_SIZE = 2048
TRAINING_BATCH = 128
TRAINING_STEPS = 20
#: GFLOP of a CW whose first call is its measurement: what it spends on building is little of it.
LONG = 1000.0
LEAST_TURNS = 3
#: Largest difference of logits between systems where no rounding to a level is a tie.
SAME_LOGITS = 1e-3
#: Share of images that such a tie may change.
TIED = 0.05


def pytorch_program(given: Optional[str]) -> str:
    """Python of the PyTorch environment: `given` or this checkout's; `EmpirError` if missing."""
    path = given or os.path.join(ROOT, ".venv-pytorch", "bin", "python")
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise EmpirError("no program %s: scripts/pytorch.sh makes it, or give --pytorch" % path)
    return os.path.abspath(path)


class Model(NamedTuple):
    """A network or ensemble to attack.

    Attributes:
      name: e.g. "mnist-ensemble".
      dataset: whose experiment it belongs to.
      folder: of its data below --data_dir.
      baseline: the full-precision network alone.
    """

    name: str
    dataset: str
    folder: str
    baseline: bool

    @property
    def members(self):
        """(name, precision) of each member."""
        members = experiment(self.dataset).members
        return members[-1:] if self.baseline else members


MODELS = (
    Model("mnist-baseline", "mnist", "mnist", True),
    Model("mnist-ensemble", "mnist", "mnist", False),
    Model("cifar10-ensemble", "cifar10", "cifar-10-batches-bin", False),
)

#: name -> (attack, what differs from the paper's parameters).
ATTACKS = {
    "fgsm": ("fgsm", {}),
    "bim": ("bim", {}),
    "pgd": ("pgd", {}),
    "cw": ("cw", {}),
    "cw-9": ("cw", {"binary_search_steps": 9}),
}


class Pace(NamedTuple):
    """How long to measure: timed calls of each system, seconds for them, and what to leave out."""

    repeats: int
    budget: float
    limit: float


class Store:
    """The record on disk, written anew after each measurement.

    Raises:
      EmpirError: if the file is of another machine or environment, or no such record.
    """

    def __init__(self, path: str):
        self.path = path
        versions, commit = runtime.provenance()
        own = dict(processor=runtime.processor(), versions=versions)
        self.record = runs.read_json(path) if os.path.lexists(path) else {}
        changed = runs.differences({key: self.record.get(key) for key in own}, own)
        if self.record and changed:
            raise EmpirError(
                "%s was measured elsewhere (%s): give another --out, or remove it to measure "
                "everything here" % (path, "; ".join(changed))
            )
        self.commit = commit
        shapes = dict.fromkeys(("attacks", "training", "logits", "environments", "startup"), dict)
        shapes["git_commits"] = list
        wrong = [n for n, shape in shapes.items() if type(self.record.get(n, shape())) is not shape]
        if wrong or (self.record and "git_commits" not in self.record):
            raise EmpirError(
                "%s has no sound %s: it is no record of benchmarks.speed, give another "
                "--out" % (path, (wrong + ["git_commits"])[0])
            )
        if not self.record:
            self.record = dict(own, git_commits=[], command=runtime.command())

    def section(self, name: str) -> dict:
        """A part of the record, for reading."""
        return self.record.get(name, {})

    def put(self, section: str, value, key: str = None):
        """Set a section, or one key of it, and write the file."""
        if key is None:
            self.record[section] = value
        else:
            self.record.setdefault(section, {})[key] = value
        if self.commit not in self.record["git_commits"]:
            self.record["git_commits"].append(self.commit)
        runs.write_json(self.path, self.record)


def export(model: Model, data_dir, path: str):
    """Write the workload of a model: its released members and test images."""
    from empir.runtime import tf

    chosen = experiment(model.dataset)
    data_dir = data_dir and os.path.join(data_dir, model.folder)
    data = chosen.data.open("test", data_dir)
    data = data.first(min(IMAGES, len(data.labels)))
    network = architecture(chosen.architecture)
    folder = os.path.join(ROOT, "checkpoints", model.dataset)
    specs = [(name, precision, os.path.join(folder, name)) for name, precision in model.members]
    with tf.Graph().as_default(), runtime.session() as session:
        members = load(network, specs, session, engine=False)
        protocol.write_workload(path, make_workload(network, members, data, session))


def load(network, specs, session, **options) -> list:
    """Members from (name, precision, path) of each; options as of `loading.load_member`."""
    from empir.models.loading import load_member

    return [
        load_member(network, precision, path, session, name, **options)
        for name, precision, path in specs
    ]


def make_workload(network, members, data, session) -> protocol.Workload:
    """The workload of all images of a dataset and of members whose weights the session holds.

    Raises:
      EmpirError: for a member whose layers differ in precision, which PyTorch's do not.
    """
    bits = []
    for member in members:
        if len(set(member.precisions)) > 1:
            raise EmpirError("%s has bits per layer: other systems do not" % member.path)
        bits.append(dict(member.precisions[0]._asdict()))
    arrays = [session.run(weights(member.model)) for member in members]
    return protocol.Workload(network.name, data.images[:], data.labels, bits, arrays)


def systems(model: Model, workload: str, pytorch: str, threads: int) -> dict:
    """Command line of each system's worker."""
    own = [sys.executable, "-m", "benchmarks.tensorflow_worker", workload]
    script = os.path.join(ROOT, "benchmarks", "pytorch_worker.py")
    other = [pytorch, script, workload, "--memory_format=" + MEMORY_FORMAT]
    commands = {"empir": own, "cleverhans": own, "foolbox": other, "torchattacks": other}
    return {
        name: command + ["--library=" + name, "--threads=%d" % threads]
        for name, command in commands.items()
    }


class Worker:
    """A system in its own process; `ask` sends a command and waits for the answer."""

    def __init__(self, name: str, command):
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            universal_newlines=True,
        )

    def ask(self, do: str, **arguments) -> dict:
        """The answer to a command.

        Raises:
          EmpirError: if the system fails.
        """
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(dict(arguments, do=do)) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise EmpirError("%s, asked to %s: %s" % (self.name, do, answer["error"]))
        return answer

    def _last_words(self):
        self._errors.seek(0)
        return self._errors.read().strip().split("\n")[-1] or "it ended without a word"

    def close(self):
        """End the process."""
        with contextlib.suppress(EmpirError, OSError):
            self.ask("quit")
        with contextlib.suppress(BrokenPipeError):  # of what a process that is dead did not read
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@contextlib.contextmanager
def started(commands: dict):
    """Workers by name, ended in the end."""
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, command in commands.items():
            workers[name] = Worker(name, command)
            stack.callback(workers[name].close)
        yield workers


def same_logits(workers: dict) -> dict:
    """Differences of each system's logits from this project's.

    Raises:
      EmpirError: if they are not the same function.
    """
    own = np.array(workers["empir"].ask("logits")["logits"])
    return {name: compare_logits(worker, own) for name, worker in workers.items()}


def compare_logits(worker: Worker, own: np.ndarray) -> dict:
    """Differences of a system's logits from this project's, float [n, classes] of its images.

    Raises:
      EmpirError: if they are not the same function.
    """
    difference = np.abs(np.array(worker.ask("logits")["logits"]) - own).max(axis=1)
    if np.mean(difference > SAME_LOGITS) > TIED:
        raise EmpirError("%s computes other logits, by up to %g" % (worker.name, difference.max()))
    return {"max": float(difference.max()), "images": int((difference > 1e-4).sum())}


def attack(store: Store, model: Model, commands: dict, names, batch_size: int, pace: Pace):
    """Measure the named attacks on a model at a batch size, each in turns of all systems.

    Which system begins changes from turn to turn, as does what ran before each.
    """
    todo = []
    for name in names:
        key = "%s/%s/%d" % (model.name, name, batch_size)
        expected = _expected(store, model, name, batch_size)
        if "skipped" in store.section("attacks").get(key, {"skipped": 0}):
            if expected > pace.limit:
                store.put("attacks", {"skipped": "would take about %d s" % expected}, key)
            else:
                todo.append((key, name))
    if not todo:
        return
    # As the example scripts configure it; its training is measured by a process without.
    commands = dict(commands, empir=commands["empir"] + ["--images=%d" % batch_size])
    with started(commands) as workers:
        store.put("logits", same_logits(workers), model.name)
        environment = workers["foolbox"].ask("environment")
        store.put("environments", environment, "pytorch, " + model.name)
        for key, name in todo:
            cell = dict(_measure(workers, model, name, batch_size, pace), git_commit=store.commit)
            store.put("attacks", cell, key)
            log.info("%s: %s", key, _in_words(cell, batch_size))


def _expected(store, model, name, batch_size):
    """Seconds that one call of each system will take, from another batch size."""
    measured = [
        (int(key.rsplit("/", 1)[1]), cell)
        for key, cell in store.section("attacks").items()
        if key.startswith("%s/%s/" % (model.name, name)) and "skipped" not in cell
    ]
    if not measured:
        return 0.0
    size, cell = max(measured, key=lambda item: item[0])
    return sum(s["first"] for s in cell["systems"].values() if "first" in s) * batch_size / size


def _measure(workers, model, name, batch_size, pace):
    attack, changes = ATTACKS[name]
    chosen = experiment(model.dataset)
    parameters = default_parameters(chosen, attack, batch_size)
    if attack == "cw":
        parameters.update(abort_early=False, **changes)  # as many steps whatever the images
    results, running = {}, []
    for system, worker in workers.items():
        answer = worker.ask("prepare", attack=attack, batch_size=batch_size, parameters=parameters)
        if not answer["available"]:
            results[system] = {"unavailable": answer["reason"]}
            continue
        first = worker.ask("run")
        results[system] = dict(first, prepare=answer["seconds"], first=first["seconds"], seconds=[])
        running.append(system)
    work = 4e-9 * _multiplications(model) * _steps(chosen, attack, parameters) * batch_size
    long = attack == "cw" and work > LONG
    gemm, began = {"cleverhans": [], "foolbox": []}, time.perf_counter()
    for turn in range(1 if long else pace.repeats):
        if turn >= LEAST_TURNS and time.perf_counter() - began > pace.budget:
            break
        first = turn % len(running)
        for system in running[first:] + running[:first]:
            result = results[system]
            answer = result if long else workers[system].ask("run")
            result["seconds"].append(result["first"] if long else answer["seconds"])
            result["peak_memory_mb"] = answer["peak_memory_mb"]
        for system, rates in gemm.items():
            seconds = workers[system].ask("gemm", size=GEMM_SIZE)["seconds"]
            rates.append(2e-9 * GEMM_SIZE**3 / seconds)
    return {
        "parameters": parameters,
        "gflop": work,
        "gemm_gflops": gemm["cleverhans"],
        "pytorch_gemm_gflops": gemm["foolbox"],
        "systems": results,
    }


def _multiplications(model):
    """Of one forward pass of all members, per image; the input gradient takes as many."""
    from empir.runtime import tf

    with tf.Graph().as_default():
        network = architecture(experiment(model.dataset).architecture).build()
        return len(model.members) * multiplications(network)


def _steps(chosen, attack, parameters) -> int:
    if attack == "cw":
        return parameters["max_iterations"] * parameters["binary_search_steps"]
    return 1 if attack == "fgsm" else chosen.nb_iter


def _in_words(cell, batch_size):
    return ", ".join(
        "%s %.3g ms/image" % (name, 1e3 * np.median(system["seconds"]) / batch_size)
        for name, system in cell["systems"].items()
        if "seconds" in system
    )


def train(store: Store, model: Model, commands: dict, repeats: int):
    """Measure a training step of each kind of member, in turns."""
    kinds = {str(precision): number for number, (_, precision) in enumerate(model.members)}
    todo = {
        "%s/%s" % (model.dataset, kind): number
        for kind, number in kinds.items()
        if "%s/%s" % (model.dataset, kind) not in store.section("training")
    }
    if not todo:
        return
    commands = {name: command for name, command in commands.items() if name != "torchattacks"}
    with started(commands) as workers:
        for key, member in todo.items():
            seconds = {name: [] for name in workers}
            for _ in range(repeats):
                for name, worker in workers.items():
                    steps = dict(batch_size=TRAINING_BATCH, steps=TRAINING_STEPS)
                    seconds[name].append(worker.ask("train", member=member, **steps)["seconds"])
            work = TRAINING_BATCH * TRAINING_STEPS
            rates = {name: [work / s for s in found] for name, found in seconds.items()}
            store.put("training", rates, key)
            words = ["%s %.0f images/s" % (n, np.median(found)) for n, found in rates.items()]
            log.info("training %s: %s", key, ", ".join(words))
