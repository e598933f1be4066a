"""Workers answer the protocol's commands, and all systems attack the same ensemble alike."""

import contextlib
import inspect
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import protocol, tensorflow_worker
from tests.support import ROOT
from tests.support.forks import forked

pytestmark = pytest.mark.slow  # it starts processes

PYTORCH = os.path.join(ROOT, ".venv-pytorch", "bin", "python")
#: Of a worker: the Python of its environment, its module and what follows.
OWN = [sys.executable, "benchmarks.tensorflow_worker"]
OTHER = [PYTORCH, "benchmarks.pytorch_worker"]
COMPILED = [PYTORCH, "benchmarks.compiled_worker"]
SYSTEMS = {
    "empir": OWN + ["--library=empir"],
    "cleverhans": OWN + ["--library=cleverhans"],
    "foolbox": OTHER + ["--library=foolbox"],
    "torchattacks": OTHER + ["--library=torchattacks", "--memory_format=channels_last"],
    # The graphs are made as for inductor, which takes a minute to compile them.
    "compiled": COMPILED + ["--memory_format=channels_last", "--backend=aot_eager"],
}
#: What workers import before anything that makes them differ.
SHARED = {
    OWN[1]: "from empir.runtime import keras, tf",
    OTHER[1]: "from benchmarks import pytorch_networks",
    COMPILED[1]: "import torch._dynamo; from benchmarks import pytorch_networks",
}
needs_pytorch = pytest.mark.skipif(
    not os.path.exists(PYTORCH), reason="no PyTorch environment at .venv-pytorch (README)"
)
ELSEWHERE = [pytest.param(name, marks=needs_pytorch) for name in ("foolbox", "torchattacks")]
LOOPS = pytest.param("compiled", marks=needs_pytorch)

INPUTS = {"MNISTconv": (28, 28, 1), "CIFARconv": (32, 32, 3)}
KERNELS = {
    "MNISTconv": dict(conv1=(8, 8, 1, 4), conv2=(6, 6, 4, 8), conv3=(5, 5, 8, 8), logits=(8, 10)),
    "CIFARconv": dict(
        conv1=(5, 5, 3, 4),
        conv2=(5, 5, 4, 4),
        conv3=(5, 5, 4, 8),
        linear1=(72, 64),
        logits=(64, 10),
    ),
}
BITS = [(2, 4), (None, None), (None, 3)]
CLIP = dict(clip_min=0.0, clip_max=1.0)
LINF = dict(eps=0.1, eps_iter=0.02, nb_iter=3, **CLIP)
CW = dict(
    binary_search_steps=1,
    max_iterations=3,
    learning_rate=0.1,
    initial_const=10.0,
    confidence=0.0,
    abort_early=False,
    **CLIP,
)
ATTACKS = [("fgsm", dict(eps=0.1, **CLIP)), ("bim", LINF), ("pgd", LINF), ("cw", CW)]
COMMANDS = [{"do": "logits"}, {"do": "nonsense"}]
for attack, parameters in ATTACKS:
    COMMANDS += [dict(do="prepare", attack=attack, batch_size=8, parameters=parameters)]
    COMMANDS += [{"do": "run"}]
COMMANDS += [
    {"do": "train", "member": 0, "batch_size": 8, "steps": 1},
    {"do": "run"},  # the attack is still prepared
    {"do": "gemm", "size": 16},
    {"do": "environment"},
    {"do": "quit"},
]
#: Both are computed alike; one is attacked.
ASKED = {"MNISTconv": [COMMANDS[0]], "CIFARconv": COMMANDS}


def workload(architecture, random):
    """Six images of noise and three members with random weights."""
    weights = [
        {
            name + "/kernel": random.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype("f4")
            for name, shape in KERNELS[architecture].items()
        }
        for _ in BITS
    ]
    return protocol.Workload(
        architecture,
        random.uniform(size=(6,) + INPUTS[architecture]).astype("f4"),
        random.randint(0, 10, 6),
        [dict(weight_bits=w, activation_bits=a) for w, a in BITS],
        weights,
    )


@pytest.fixture(scope="module")
def path_of(tmp_path_factory):
    """`path_of(architecture)`: the file of its workload."""
    folder = tmp_path_factory.mktemp("workloads")

    def path(architecture):
        made = str(folder / (architecture + ".npz"))
        if not os.path.exists(made):
            protocol.write_workload(made, workload(architecture, np.random.RandomState(0)))
        return made

    return path


#: Runs workers, one for each line of standard input: imports, module, words, the paths of its
#: three streams. Each is a fork of one process that keeps what was imported: as if a process of its
#: own, without the time of these imports. Its exit status is told in a line.
FORKS = (
    "import functools, json, os, runpy, sys, traceback\n"
    + inspect.getsource(forked)  # whose package needs what PyTorch's environment lacks
    + """
def work(module, words, streams):
    for number, path in enumerate(streams):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    sys.stdin = open(0, closefd=False)
    sys.argv = [module] + words
    runpy.run_module(module, run_name="__main__", alter_sys=True)

for line in sys.stdin:
    imports, *worker = json.loads(line)
    exec(imports, {})
    print(forked(functools.partial(work, *worker)), flush=True)
"""
)


@pytest.fixture(scope="module")
def answer_all(tmp_path_factory):
    """`answer_all(worker, commands)`: a worker's answers to commands, in a process of its own."""
    parents = {}

    def parent(python):
        if python not in parents:
            parents[python] = subprocess.Popen(
                [python, "-Bc", FORKS],
                cwd=ROOT,
                env=dict(os.environ, PYTHONPATH=ROOT),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                universal_newlines=True,
            )
        return parents[python]

    def answer(worker, commands):
        folder = tmp_path_factory.mktemp("streams")
        streams = [folder / name for name in ("asked", "answered", "errors")]
        streams[0].write_text("".join(json.dumps(asked) + "\n" for asked in commands))
        python, module, *words = worker
        words += ["--threads=1"]
        line = [SHARED[module], module, words, [str(path) for path in streams]]
        forking = parent(python)
        forking.stdin.write(json.dumps(line) + "\n")
        forking.stdin.flush()
        status = forking.stdout.readline()
        errors = streams[2].read_text() if streams[2].exists() else ""
        assert status == "0\n", errors
        lines = streams[1].read_text().splitlines()
        assert len(lines) == len(commands), errors
        return [json.loads(line) for line in lines]

    yield answer
    for forking in parents.values():
        forking.stdin.close()
        forking.stdout.close()
        assert forking.wait() == 0


def answer_here(library, path, commands):
    """The answers of a TensorFlow library's worker in this process, which has loaded TensorFlow."""
    read = protocol.read_workload(path)
    worker = protocol.Worker(tensorflow_worker.TensorFlowSystem(read, library), read)
    return [worker.answer(json.dumps(asked)) for asked in commands]


@pytest.fixture(scope="module")
def answers(path_of, answer_all):
    """`answers(system, architecture)`: a worker's answers to ASKED, asked once."""
    known = {}

    def ask(system, architecture):
        if (system, architecture) not in known:
            path, asked = path_of(architecture), ASKED[architecture]
            if SYSTEMS[system][0] == sys.executable and len(asked) == 1:
                known[system, architecture] = answer_here(system, path, asked)
            else:
                known[system, architecture] = answer_all(SYSTEMS[system] + [path], asked)
        return known[system, architecture]

    return ask


def runs(answered):
    """Attack -> what its run told."""
    return {attack: answered[3 + 2 * i] for i, (attack, _) in enumerate(ATTACKS)}


def test_a_workload_is_read_as_it_was_written(tmp_path, random):
    written, path = workload("MNISTconv", random), str(tmp_path / "workload.npz")
    protocol.write_workload(path, written)
    read = protocol.read_workload(path)
    assert (read.architecture, read.members) == (written.architecture, written.members)
    assert (read.images.dtype, read.labels.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(read.images, written.images)
    np.testing.assert_array_equal(read.labels, written.labels)
    np.testing.assert_equal(read.weights, written.weights)


def test_a_large_batch_repeats_the_images(random):
    few = workload("MNISTconv", random)
    images, labels = few.batch(8)
    np.testing.assert_array_equal(images[6:], few.images[:2])
    np.testing.assert_array_equal(labels[6:], few.labels[:2])


class Brightness(protocol.System):
    """Says class 1 of images with a mean above 1/2; its attack brightens the first image."""

    forward_passes = 0

    def logits(self, images):
        self.forward_passes += 1
        mean = images.mean((1, 2, 3))
        return np.stack([1 - mean, mean], 1)

    @contextlib.contextmanager
    def attack(self, name, parameters, images, labels):
        if name != "brighten":
            raise protocol.Unavailable("only brighten")

        def run():
            self.logits(images)
            return np.concatenate([images[:1] + parameters["eps"], images[1:]])

        yield run


@pytest.fixture
def worker():
    """A worker about two dark images of 2x2 pixels."""
    images = np.zeros((2, 2, 2, 1), np.float32)
    return protocol.Worker(
        Brightness(), protocol.Workload("none", images, np.zeros(2, int), [], [])
    )


def ask(worker, **command):
    return worker.answer(json.dumps(command))


def test_a_run_is_judged(worker):
    prepared = ask(worker, do="prepare", attack="brighten", batch_size=2, parameters={"eps": 0.75})
    assert prepared["available"] and prepared["seconds"] >= 0
    told = ask(worker, do="run")
    assert told["success"] == 0.5
    assert told["mean_l2"] == pytest.approx(0.75)  # 2 * 0.75 of one image of two
    assert told["mean_linf"] == pytest.approx(0.375)
    assert told["forward_passes"] == 1  # the attack's alone


@pytest.mark.parametrize(
    "line, says",
    [
        ('{"do": "nonsense"}', "'nonsense': choose from environment, logits"),
        ('{"do": "run"}', "no attack is prepared"),
        ('{"do": "gemm", "length": 3}', "length"),
        ("logits", "JSONDecodeError"),
    ],
)
def test_a_bad_command_is_one_line(worker, line, says):
    error = worker.answer(line)["error"]
    assert says in error and "\n" not in error
    assert "logits" in ask(worker, do="logits")


def test_an_attack_that_a_system_lacks_is_no_error(worker):
    answer = ask(worker, do="prepare", attack="cw", batch_size=1, parameters={})
    assert answer == {"available": False, "reason": "only brighten"}
    assert "no attack is prepared" in ask(worker, do="run")["error"]


@pytest.mark.parametrize("architecture", sorted(KERNELS))
@pytest.mark.parametrize("system", ["empir"] + ELSEWHERE)
def test_systems_compute_the_same_logits(answers, system, architecture):
    expected = answers("cleverhans", architecture)[0]["logits"]
    # Sums in another order; activations that it rounds to another level would differ by more.
    np.testing.assert_allclose(answers(system, architecture)[0]["logits"], expected, atol=1e-4)


@pytest.mark.parametrize("system", ["empir", LOOPS] + ELSEWHERE)
def test_systems_attack_alike(answers, system):
    expected, told = (runs(answers(name, "CIFARconv")) for name in ("cleverhans", system))
    for attack in ("fgsm", "bim", "pgd"):
        assert told[attack]["mean_linf"] == pytest.approx(expected[attack]["mean_linf"], abs=1e-5)
        # Starts of PGD are different draws.
        assert told[attack]["mean_l2"] == pytest.approx(expected[attack]["mean_l2"], rel=0.05)
    for attack in ("fgsm", "bim"):
        assert told[attack]["success"] == expected[attack]["success"]
    if system != "torchattacks":  # whose CW leaves off by a rule of its own
        for value in ("success", "mean_l2", "mean_linf"):
            assert told["cw"][value] == pytest.approx(expected["cw"][value], rel=1e-3)


@pytest.mark.parametrize("system", ["empir", "cleverhans"] + ELSEWHERE)
def test_workers_answer_every_command(answers, system):
    told = answers(system, "CIFARconv")
    assert list(told[1]) == ["error"]
    step, again, product, environment, farewell = told[-5:]
    assert step["seconds"] > 0 and product["seconds"] > 0 and farewell == {}
    assert again["success"] == runs(told)["cw"]["success"]
    assert environment["threads"] == 1 and {"python", "numpy"} <= set(environment["versions"])
    passes = {"fgsm": 1, "bim": 3, "pgd": 3, "cw": 3}
    for attack, run in runs(told).items():
        assert run["seconds"] > 0
        stopped = system == "torchattacks" and attack == "cw" and run["forward_passes"] == 2
        assert stopped or run["forward_passes"] in (None, passes[attack])


@needs_pytorch
def test_where_nothing_can_be_compiled_no_compiled_attack_is_available(path_of, answer_all):
    command = COMPILED + ["--backend=none", path_of("CIFARconv")]
    (told,) = answer_all(command, COMMANDS[2:3])
    assert not told["available"] and "torch.compile does not work here" in told["reason"]
