"""Chunks on workers that die, hang, differ, or do not see what they need."""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time

import distributed
import numpy as np
import pytest

from empir.cluster import connection
from empir.data import mnist
from empir.errors import EmpirError
from empir.evaluation import attackers, places
from empir.evaluation.graph import Setting
from empir.evaluation.subjects import Source
from empir.models import checkpoints
from empir.models.checkpoints import MemberSpec
from empir.nn.precision import FULL
from tests.cluster import chunks
from tests.cluster.conftest import assert_squares, place, squares
from tests.support import ROOT

pytestmark = pytest.mark.slow  # it starts processes


def test_every_chunk_is_computed_once_and_says_by_whom(connected, tmp_path):
    made = place(connected, least=2)
    found = squares(made, tmp_path, 30, seconds=0.02)
    assert_squares(found, 30)
    names = {str(arrays[places.WORKER]) for arrays in found.values()}
    assert len(names) == 2 and made.count == 2 and made.status == "2 workers"
    assert squares(made, tmp_path, 0) == {}


@pytest.mark.parametrize("fault", ["die", "stop"])
def test_a_chunk_of_a_lost_worker_is_computed_by_another(connected, tmp_path, caplog, fault):
    caplog.set_level("INFO")
    (tmp_path / f"{fault}-3").write_text("")
    assert_squares(squares(place(connected, limit=2.0), tmp_path, 6, seconds=0.01), 6)
    told = "is gone" if fault == "die" else "has not answered for 2 s"
    assert told in caplog.text and not (tmp_path / f"{fault}-3").exists()


def test_a_worker_that_hangs_is_left_alone_until_it_answers(connected, tmp_path, caplog):
    caplog.set_level("INFO")
    other = connection.Connection(connected.client.scheduler.address)  # did not start it
    (tmp_path / "hang-2").write_text("")
    assert_squares(squares(place(other, limit=2.0), tmp_path, 30, seconds=0.2), 30)
    other.close()
    assert "has not answered for 2 s" in caplog.text and "answers again" in caplog.text


def test_a_fetch_that_is_cancelled_at_any_moment_leaves_the_next_ones_alone(connected):
    client = connected.client
    first, second = client.map(abs, [-1, -2], pure=False)
    distributed.wait([first, second])

    async def cancelled(turns):
        fetch = connected.fetch(first)
        for _ in range(turns):
            await asyncio.sleep(0)
        fetch.cancel()

    for turns in range(12):
        client.sync(cancelled, turns)
        assert connected.fetch(second).result(timeout=60) == 2


def test_a_chunk_that_fails_three_times_ends_the_run_with_the_workers_error(connected, tmp_path):
    (tmp_path / "fail-2").write_text("")
    problem = "chunk 2 failed 3 times: worker .* says: OSError: the disk of this worker is full"
    with pytest.raises(EmpirError, match=problem):
        squares(place(connected), tmp_path, 4)


def test_a_worker_that_differs_is_refused_unless_mixed_ones_are_accepted(
    connected, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(
            places.provenance, "environment", lambda: {"tensorflow": "other 1.15", "empir": "0.0"}
        )
        with pytest.raises(EmpirError, match="empir is .* there, 0.0 with the driver.*--mixed_wo"):
            squares(place(connected), tmp_path, 2)
        assert_squares(squares(place(connected, mixed=True), tmp_path, 2), 2)


def outputs(made):
    """What a worker has opened: digests of its networks and of its images."""
    each = made.computing(None, chunks.digests)
    [(_, arrays)] = each([tuple])
    return list(arrays["networks"]), str(arrays["images"])


def test_what_a_worker_does_not_see_is_sent(connected, tmp_path, monkeypatch):
    """The paths are relative to another folder than the workers'."""
    chunks.save_tiny(tmp_path)
    monkeypatch.chdir(tmp_path)
    data = mnist.load(sample=True).subset(20)
    source = Source(chunks.NAME, [MemberSpec(FULL, "full")])
    unseen = functools.partial(mnist.load, "test", "nowhere")
    for load in (None, unseen, functools.partial(mnist.load, "test", None, sample=True)):
        subject = dict(source=source, load=load)
        networks, images = outputs(place(connected, data=data, subject=subject))
        assert images == data.digest()
        assert networks == [checkpoints.digest(checkpoints.read("full"))]


def test_other_weights_at_the_same_path_are_refused(connected, tmp_path):
    chunks.save_tiny(tmp_path)
    source = Source(chunks.NAME, [MemberSpec(FULL, str(tmp_path / "full"))])
    setting = Setting(open=None, data=None, threat=None)
    each = place(connected, subject=dict(source=source)).computing(
        None, functools.partial(attackers.of_suite, setting, ["0" * 64])
    )
    with pytest.raises(EmpirError, match="network 1 has sha256 [0-9a-f]{64} there, 0{64} with"):
        list(each([functools.partial(tuple, (None, np.arange(2), {}))]))


def free_port():
    """A port below those from which connections are made, which could connect to themselves."""
    for port in range(20000 + os.getpid() % 10000, 32768):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def dask(*words):
    """A process of Dask."""
    line = [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]]
    return subprocess.Popen(line, env=dict(os.environ, PYTHONPATH=ROOT))


def test_a_scheduler_may_come_back_and_one_that_does_not_is_told(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(connection, "ANSWER", 4)
    monkeypatch.setattr(connection, "RETURN", 0)
    port = free_port()
    path = str(tmp_path / "scheduler.json")
    line = (
        "dask_scheduler",
        "--host=127.0.0.1",
        f"--port={port}",
        "--dashboard-address=127.0.0.1:0",
    )
    line += (f"--scheduler-file={path}",)
    processes = [dask(*line)]
    processes.append(
        dask(
            "dask_worker",
            f"tcp://127.0.0.1:{port}",
            "--no-nanny",
            "--nthreads=1",
            f"--local-directory={tmp_path}",
        )
    )
    try:
        while not os.path.exists(path):
            assert processes[0].poll() is None
            time.sleep(0.1)
        connected = connection.Connection(path)
        made = place(connected)

        restarted = []

        def restart(number, rows):
            if number == 4 and len(restarted) == 0:
                restarted.append(number)
                processes[0].send_signal(signal.SIGKILL)
                processes[0].wait()
                processes[0] = dask(*line)
            return number, rows

        each = made.computing(None, functools.partial(chunks.squares, str(tmp_path), 0.4))
        rows = [np.arange(2 * number, 2 * number + 2) for number in range(8)]
        found = dict(each([functools.partial(restart, n, rows[n]) for n in range(8)]))
        assert_squares(found, 8)
        assert restarted and "the scheduler went away and is back" in caplog.text
        processes[0].kill()
        processes[0].wait()
        with pytest.raises(EmpirError, match="no scheduler answers.*goes on from what it kept"):
            squares(made, tmp_path, 2)
        connected.close()
    finally:
        for process in processes:
            process.kill()
            process.wait()
