"""Measures attacks and training of several systems in turns, and keeps the results in a record."""

import logging
import os
import sys
import time
from dataclasses import dataclass
from typing import Dict, Sequence

import numpy as np

from benchmarks import commands, convolution_worker, protocol, worker_process, workloads
from benchmarks.pages import speed as report
from empir import runtime
from empir.errors import EmpirError
from empir.experiments import default_parameters, experiment
from empir.models.checkpoints import MemberSpec
from empir.nn import architecture
from empir.nn.cost import multiplications
from empir.records import provenance, runs
from empir.runtime import ROOT

log = logging.getLogger("empir")

#: PyTorch's memory format; channels_last is the faster one for all of these networks.
MEMORY_FORMAT = "channels_last"
#: Batches are taken from this many test images.
IMAGES = 500
GEMM_SIZE = 2048
TRAINING_BATCH = 128
TRAINING_STEPS = 20
#: The systems that train; torchattacks would train the same PyTorch network as Foolbox.
TRAINING_SYSTEMS = ("empir", "cleverhans", "foolbox")
#: GFLOP from which on the first call of CW is its only one: building the graph is little of it.
ONE_CALL_GFLOP = 1000.0
LEAST_TURNS = 3
#: Seconds of calls in a turn, or one call. The first call of a turn may meet threads of the system
#: before it, which wait for work busily for some milliseconds: as long as FGSM on an image takes.
TURN_SECONDS = 0.3
_PRODUCT = dict(do="gemm", size=GEMM_SIZE)
#: Rates of the record, GFLOP/s: what is asked of which worker, and the GFLOP of that. The best of
#: them is what attacks are compared with.
RATES = {
    "gemm_gflops": ("cleverhans", _PRODUCT, 2e-9 * GEMM_SIZE**3),
    "pytorch_gemm_gflops": ("foolbox", _PRODUCT, 2e-9 * GEMM_SIZE**3),
    **{
        f"{library}_convolution_gflops": (
            f"{library} convolutions",
            dict(do="convolutions"),
            convolution_worker.GFLOP,
        )
        for library in convolution_worker.LIBRARIES
    },
}
#: Name of the file that `convolution_worker.write` wrote.
CONVOLUTIONS = "convolutions.onnx"
#: Parts of the record that are objects.
SECTIONS = ("attacks", "training", "logits", "environments", "startup")


@dataclass(frozen=True)
class Model:
    """A network or ensemble to attack.

    Attributes:
      name: e.g. "mnist-ensemble"; `report.benchmark.MODELS` has its title.
      dataset: name of the experiment that it belongs to.
      baseline: whether it is the full-precision network alone.
    """

    name: str
    dataset: str
    baseline: bool

    @property
    def members(self):
        """(name, precision) of each member."""
        members = experiment(self.dataset).members
        return members[-1:] if self.baseline else members


MODELS = (
    Model("mnist-baseline", "mnist", baseline=True),
    Model("mnist-ensemble", "mnist", baseline=False),
    Model("cifar10-ensemble", "cifar10", baseline=False),
)

#: Name in the record -> (attack, parameters that differ from the paper's).
ATTACKS = {
    "fgsm": ("fgsm", {}),
    "bim": ("bim", {}),
    "pgd": ("pgd", {}),
    "cw": ("cw", {}),
    "cw-9": ("cw", {"binary_search_steps": 9}),
}


@dataclass(frozen=True)
class Pace:
    """How long to measure an attack.

    Attributes:
      repeats: timed calls of each system, at most.
      budget: seconds after which the third turn is the last.
      limit: an attack is left out if one call of all systems would take more seconds.
    """

    repeats: int
    budget: float
    limit: float


class Store:
    """The record on disk, which is written anew after each measurement.

    Attributes:
      path: of the file.
      record: its content.
      commit: git commit of this clone.

    Raises:
      EmpirError: if the file is of another machine or environment, or no such record.
    """

    def __init__(self, path: str):
        self.path = path
        told = provenance.of_run()
        own = dict(processor=provenance.processor(), versions=told["versions"])
        self.commit = told["git_commit"]
        self.record = runs.read_json(path) if os.path.lexists(path) else {}
        if not self.record:
            self.record = dict(own, git_commits=[], command=told["command"])
        changed = runs.differences({key: self.record.get(key) for key in own}, own)
        if changed:
            raise EmpirError(
                f"{path} was measured elsewhere ({'; '.join(changed)}): give another --out, or "
                "remove it to measure everything here"
            )
        wrong = [key for key in SECTIONS if not isinstance(self.record.get(key, {}), dict)]
        wrong += [] if isinstance(self.record.get("git_commits"), list) else ["git_commits"]
        if wrong:
            raise EmpirError(
                f"{path} has no sound {wrong[0]}: it is no record of benchmarks.speed, give "
                "another --out"
            )

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
    """Write the workload of a model: its trained members and test images.

    Args:
      model: which.
      data_dir: folder that holds the model's folder of data, or None.
      path: the .npz file to write.
    """
    from empir.models.member import load_members
    from empir.runtime import tf

    chosen = experiment(model.dataset)
    data = chosen.data.open("test", commands.data_folder(data_dir, model.dataset))
    data = data.first(min(IMAGES, len(data.labels)))
    network = architecture(chosen.architecture)
    folder = os.path.join(ROOT, "checkpoints", model.dataset)
    specs = [MemberSpec(precision, os.path.join(folder, name)) for name, precision in model.members]
    with tf.Graph().as_default(), runtime.session() as session:
        members = load_members(network, specs, session, engine=False)
        workload = workloads.make_workload(network, members, data, session)
        protocol.write_workload(path, workload)


def systems(workload: str, pytorch: str, threads: int) -> Dict[str, list]:
    """Command line of each system's worker, and of those that time convolutions.

    Args:
      workload: path of the workload's file; `CONVOLUTIONS` lies beside it.
      pytorch: Python of the PyTorch environment.
      threads: number of threads of each system.
    """
    own = [sys.executable, "-m", "benchmarks.tensorflow_worker", workload]
    arranged = [workload, f"--memory_format={MEMORY_FORMAT}"]
    library = [pytorch, "-m", "benchmarks.pytorch_worker"] + arranged
    commands = {
        "empir": own + ["--library=empir"],
        "cleverhans": own + ["--library=cleverhans"],
        "foolbox": library + ["--library=foolbox"],
        "torchattacks": library + ["--library=torchattacks"],
        "compiled": [pytorch, "-m", "benchmarks.compiled_worker"] + arranged,
    }
    path = os.path.join(os.path.dirname(workload), CONVOLUTIONS)
    for library in convolution_worker.LIBRARIES:
        command = [pytorch, "-m", "benchmarks.convolution_worker", path, f"--library={library}"]
        commands[f"{library} convolutions"] = command
    return {name: command + [f"--threads={threads}"] for name, command in commands.items()}


def same_logits(workers: dict) -> dict:
    """Differences of each system's logits from this project's, see `compare_logits`.

    Raises:
      EmpirError: if the systems do not compute the same function.
    """
    own = np.array(workers["empir"].ask("logits")["logits"])
    return {
        name: worker_process.compare_logits(worker, own)
        for name, worker in workers.items()
        if name in report.SYSTEMS
    }


def measure_attacks(
    store: Store,
    model: Model,
    commands: Dict[str, list],
    *,
    names: Sequence[str],
    batch_size: int,
    pace: Pace,
):
    """Measure attacks on a model that are not in the record yet; the systems take turns.

    Args:
      store: the record.
      model: what is attacked.
      commands: see `systems`.
      names: of `ATTACKS`.
      batch_size: images per call.
      pace: how long to measure.
    """
    todo = {}
    for name in names:
        key = f"{model.name}/{name}/{batch_size}"
        if "skipped" not in store.section("attacks").get(key, {"skipped": None}):
            continue
        seconds = expected_seconds(store.section("attacks"), model, name, batch_size)
        if seconds > pace.limit:
            store.put("attacks", {"skipped": f"would take about {seconds:.0f} s"}, key)
        else:
            todo[key] = name
    if not todo:
        return
    # Attacks of this project are configured as in the example scripts, by the images of a chunk.
    commands = dict(commands, empir=commands["empir"] + [f"--images={batch_size}"])
    with worker_process.started(commands) as workers:
        store.put("logits", same_logits(workers), model.name)
        for title, name in {"pytorch": "foolbox", "compiled": "compiled"}.items():
            environment = workers[name].ask("environment")
            store.put("environments", environment, f"{title}, {model.name}")
        for key, name in todo.items():
            cell = measure_attack(workers, model, name, batch_size, pace)
            store.put("attacks", dict(cell, git_commit=store.commit), key)
            log.info("%s: %s", key, _summary(cell, batch_size))


def expected_seconds(attacks: dict, model: Model, name: str, batch_size: int) -> float:
    """Seconds that one call of each system takes in all, by the largest batch measured so far.

    Args:
      attacks: that section of the record.
      model, name, batch_size: the attack; 0 seconds are expected if it was not measured at all.
    """
    prefix = f"{model.name}/{name}/"
    measured = {
        int(key[len(prefix) :]): cell["systems"].values()
        for key, cell in attacks.items()
        if key.startswith(prefix) and "skipped" not in cell
    }
    largest = max(measured, default=1)
    seconds = sum(system.get("first", 0.0) for system in measured.get(largest, ()))
    return seconds * batch_size / largest


def measure_attack(workers: dict, model: Model, name: str, batch_size: int, pace: Pace) -> dict:
    """Times of an attack by each system, which take turns; another one begins each turn.

    Args:
      workers: name -> `WorkerProcess`, of each system and of what else `RATES` asks.
      model: what is attacked.
      name: of `ATTACKS`.
      batch_size: images per call.
      pace: how long to measure.

    Returns:
      The record's entry: parameters, the arithmetic of a call in GFLOP, `RATES` in the same turns,
      and per system its first call and the seconds of the timed ones.
    """
    attack, changes = ATTACKS[name]
    parameters = default_parameters(experiment(model.dataset), attack, batch_size)
    if attack == "cw":
        parameters.update(abort_early=False, **changes)  # as many steps for any images
    results = {}
    for system in [name for name in workers if name in report.SYSTEMS]:
        worker = workers[system]
        answer = worker.ask("prepare", attack=attack, batch_size=batch_size, parameters=parameters)
        if answer["available"]:
            first = worker.ask("run")
            timed = dict(prepare=answer["seconds"], first=first["seconds"], seconds=[])
            results[system] = dict(first, **timed)
        else:
            results[system] = {"unavailable": answer["reason"]}
    gflop = gradient_gflop(model) * report.attack_steps(parameters) * batch_size
    running = {name: result for name, result in results.items() if "first" in result}
    rates = {rate: [] for rate in RATES}
    if attack == "cw" and gflop > ONE_CALL_GFLOP:
        for result in running.values():
            result["seconds"].append(result["first"])
        _add_rates(workers, rates)
    else:
        _take_turns(workers, running, rates, pace)
    return {"parameters": parameters, "gflop": gflop, **rates, "systems": results}


def _take_turns(workers, results, rates, pace):
    """Add timed calls to the systems' results, and `RATES` of each turn."""
    began = time.perf_counter()
    order = list(results)
    for turn in range(pace.repeats):
        if turn >= LEAST_TURNS and time.perf_counter() - began > pace.budget:
            break
        for system in order:
            answer = workers[system].ask("run", at_least=TURN_SECONDS)
            results[system]["seconds"].append(answer["seconds"])
            results[system]["peak_memory_mb"] = answer["peak_memory_mb"]
        order.append(order.pop(0))
        _add_rates(workers, rates)


def _add_rates(workers, rates):
    for rate, (worker, asked, gflop) in RATES.items():
        rates[rate].append(gflop / workers[worker].ask(**asked)["seconds"])


def gradient_gflop(model: Model) -> float:
    """GFLOP of a forward pass and an input gradient of all members, for one image."""
    from empir.runtime import tf

    with tf.Graph().as_default():
        network = architecture(experiment(model.dataset).architecture).build()
        return 4e-9 * len(model.members) * multiplications(network)


def _summary(cell, batch_size):
    return ", ".join(
        f"{name} {1e3 * np.median(system['seconds']) / batch_size:.3g} ms/image"
        for name, system in cell["systems"].items()
        if "seconds" in system
    )


def measure_training(store: Store, model: Model, commands: Dict[str, list], repeats: int):
    """Measure a training step of each kind of member that is not in the record yet, in turns.

    Args:
      store: the record.
      model: its members are trained anew.
      commands: see `systems`.
      repeats: timed runs of `TRAINING_STEPS` steps.
    """
    kinds = {
        f"{model.dataset}/{precision}": number
        for number, (_, precision) in enumerate(model.members)
    }
    todo = {key: kinds[key] for key in kinds if key not in store.section("training")}
    if not todo:
        return
    steps = dict(batch_size=TRAINING_BATCH, steps=TRAINING_STEPS)
    commands = {name: commands[name] for name in TRAINING_SYSTEMS}
    with worker_process.started(commands) as workers:
        for key, member in todo.items():
            rates = {name: [] for name in workers}
            for _ in range(repeats):
                for name, worker in workers.items():
                    seconds = worker.ask("train", member=member, **steps)["seconds"]
                    rates[name].append(TRAINING_BATCH * TRAINING_STEPS / seconds)
            store.put("training", rates, key)
            words = [f"{name} {np.median(rate):.0f} images/s" for name, rate in rates.items()]
            log.info("training %s: %s", key, ", ".join(words))
