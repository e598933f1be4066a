"""Several processes that train one network together give what one gives, also after a kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from empir.data import mnist
from empir.errors import EmpirError
from empir.models import checkpoints
from empir.nn.precision import Precision
from empir.training import train, workers
from tests.support import ROOT
from tests.support.trainings import settings

#: A worker: its number, the ports of all, the folder, and the epochs.
WORKER = """
import json, logging, os, sys
logging.basicConfig()
number, ports, folder, epochs = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
os.environ["TF_CONFIG"] = json.dumps({
    "cluster": {"worker": ["127.0.0.1:%d" % port for port in ports]},
    "task": {"type": "worker", "index": number},
})
from empir.errors import EmpirError
from empir.training import train, workers
from tests.training import test_workers
try:
    train(test_workers.asked(int(epochs)), test_workers.images(), folder, resume=True,
          test=test_workers.images(), progress=False, workers=workers.from_environment())
except EmpirError as error:
    sys.exit(str(error))
"""


def asked(epochs):
    return settings(Precision(2, 4), epochs=epochs, batch_size=16)


def images():
    return mnist.load(sample=True).first(64)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def started(folder, epochs):
    ports = json.dumps(free_ports(2))
    return [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORKER, str(number), ports, folder, str(epochs)],
            cwd=ROOT,
            env=dict(os.environ, PYTHONPATH=ROOT),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        for number in range(2)
    ]


@pytest.mark.slow  # four processes
def test_two_workers_train_as_one_also_after_a_kill(tmp_path):
    folder = str(tmp_path / "member")
    os.mkdir(folder)
    chief, other = started(folder, 10000)
    state = os.path.join(folder, "training-state", "state.json")
    deadline = time.monotonic() + 300
    while not os.path.exists(state):
        assert chief.poll() is None and time.monotonic() < deadline, chief.communicate()[0]
        time.sleep(0.05)
    other.send_signal(signal.SIGKILL)
    said = chief.communicate(timeout=300)[0]
    assert chief.returncode == 1 and "is gone: start all of them again with --resume" in said
    other.communicate()
    with open(state) as file:
        done = len(json.load(file)["history"])
    epochs = done + 1
    for process in started(folder, epochs):
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
    together = checkpoints.read_member(folder, asked(1).network, asked(1).precisions)
    alone = train(asked(epochs), images(), str(tmp_path / "alone"), progress=False)
    for name in alone:
        np.testing.assert_allclose(together[name], alone[name], rtol=0, atol=2e-3)
    records = [checkpoints.training_record(path) for path in (folder, str(tmp_path / "alone"))]
    losses = [[epoch["loss"] for epoch in record["history"]] for record in records]
    np.testing.assert_allclose(*losses, rtol=1e-2)
    assert records[0]["workers"] == 2


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a", "b:2"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"ps": ["a:1"], "worker": ["b:2"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_another_description_is_refused(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(EmpirError, match="TF_CONFIG=.*: write"):
        workers.from_environment()


@pytest.mark.parametrize(
    "text",
    ["", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'],
)
def test_one_process_trains_alone(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert workers.from_environment().count == 1


def test_batches_are_shared_equally():
    two = workers.Workers(["a:1", "b:2"], 1, None, "", None)
    two.check(16)
    assert list(two.part(np.arange(4))) == [1, 3]
    with pytest.raises(EmpirError, match="batches of 15 images cannot be shared by 2 workers"):
        two.check(15)
