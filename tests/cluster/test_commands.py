"""--scheduler on the command line: what it computes, says, survives and refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from empir.cluster import connection
from empir.cluster.driver import OnWorkers
from empir.data import mnist
from empir.errors import EmpirError
from empir.evaluation import single, suite
from tests.cluster import chunks
from tests.cluster.conftest import assert_squares, place, squares
from tests.support import ROOT
from tests.support.scripts import assert_refused

pytestmark = pytest.mark.slow  # it starts processes

MODEL = "--network=tiny.py:TINY --members=fp:full --data=mine.npz "
ATTACK = "attack --attack=pgd --nb_iter=2 --nb_samples=300 " + MODEL


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with tiny members, their network and images."""
    found = tmp_path_factory.mktemp("commands")
    chunks.save_tiny(found)
    (found / "tiny.py").write_text("from tests.cluster import chunks\nTINY = chunks.tiny()\n")
    data = mnist.load(sample=True)
    np.savez(str(found / "mine.npz"), images=data.images, labels=data.labels)
    return found


@pytest.fixture
def run(empir_command, folder):
    """Run a command in this process, in the folder: line -> as of a process."""
    return lambda line: empir_command(line, str(folder))


@pytest.fixture
def whole(run, folder):
    """examples.npz of the attack, by one process."""
    if not (folder / "whole").exists():
        assert run(ATTACK + "--num_threads=1 --out=whole").returncode == 0
    return (folder / "whole" / "examples.npz").read_bytes()


def test_a_command_starts_its_own_worker_and_computes_the_same_bytes(run, folder, whole):
    done = run(ATTACK + "--scheduler=local:1 --out=local")
    assert (folder / "local" / "examples.npz").read_bytes() == whole, done.stderr
    told = ["started 1 worker process here; its dashboard is at http://127.0.0.1:"]
    told += ["worker 0 at tcp://127.0.0.1:", "is there (1 in all)"]
    assert all(text in done.stderr for text in told), done.stderr
    record = json.loads((folder / "local" / "result.json").read_text())["cluster"]
    [worker] = record["workers"]
    assert (worker["name"], worker["chunks"]) == ("0", 3) and "tensorflow" in worker["environment"]
    assert 0 < worker["seconds"] == record["seconds"] and not record["mixed_workers"]
    assert record["wall_seconds"] > 0


def test_a_killed_driver_is_gone_on_with_and_a_second_one_is_refused(connected, run, folder, whole):
    line = ATTACK + f"--scheduler={connected.client.scheduler.address} --out=killed "
    words = [sys.executable, "-m", "empir", *line.split(), "--noprogress"]
    process = subprocess.Popen(words, cwd=str(folder), env=dict(os.environ, PYTHONPATH=ROOT))
    try:
        while not (folder / "killed" / "partial" / "chunk-00000000.npz").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        second = run(line + "--resume")
        assert second.returncode == 2 and "error: killed is in use by another run" in second.stderr
    finally:
        process.kill()
        process.wait()
    assert run(line + "--resume").returncode == 0
    assert (folder / "killed" / "examples.npz").read_bytes() == whole


@pytest.mark.parametrize(
    "module, line",
    [
        (suite, "robustness --noanalyses --eps=0.1"),
        (suite, "attack --protocol=adaptive"),
        (single, "reproduce --sample --members_dir=MEMBERS"),
    ],
)
def test_every_command_that_evaluates_has_workers(
    connected, run, folder, monkeypatch, module, line
):
    def stop(*arguments, **options):
        assert any(isinstance(v, OnWorkers) for v in (*arguments, *options.values()))
        raise EmpirError("the evaluation begins")

    monkeypatch.setattr(module, "run" if module is suite else "evaluate", stop)
    line = line.replace("MEMBERS", os.path.join(ROOT, "checkpoints", "mnist"))
    line += "" if "reproduce" in line else " " + MODEL
    address = connected.client.scheduler.address
    done = run(f"{line} --nb_samples=20 --scheduler={address} --out=begins")
    assert done.stderr.endswith("error: the evaluation begins\n"), done.stderr


def test_tls_encrypts_and_keeps_out_who_has_no_certificate(tmp_path, monkeypatch):
    tls = certificates(tmp_path)
    monkeypatch.setattr(connection, "ANSWER", 3)
    connected = connection.Connection("local:1", tls)
    try:
        address = connected.client.scheduler.address
        assert address.startswith("tls://")
        assert_squares(squares(place(connected), tmp_path, 3), 3)
        other = connection.Connection(address, tls)
        assert other.workers() == connected.workers()
        other.close()
        for stranger, text in ((address, "needs --tls_ca"), (address.replace("tls", "tcp"), "no ")):
            with pytest.raises(EmpirError, match=text):
                connection.Connection(stranger)
        (tmp_path / "other").mkdir()
        with pytest.raises(EmpirError, match="no scheduler answers at tls://.*certificate"):
            connection.Connection(address, certificates(tmp_path / "other"))
    finally:
        connected.close()


def certificates(folder):
    """A certificate that signs itself, and its key."""
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=empir".split()
    try:
        subprocess.check_call([*line, "-keyout", key, "-out", cert], stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip("there is no openssl to make certificates with")
    return connection.Tls(cert, cert, key)


@pytest.mark.parametrize(
    "flags, texts",
    [
        ("--scheduler=http://here", ["--scheduler=http://here: write tcp://HOST:PORT"]),
        ("--scheduler=missing.json", ["no such scheduler file"]),
        ("--scheduler=mine.npz", ["mine.npz is no scheduler file"]),
        ("--scheduler=local:0", ["COUNT is a number of 1..256"]),
        ("--scheduler=local:x", ["write local or local:COUNT"]),
        ("--scheduler=tls://127.0.0.1:1", ["needs --tls_ca, --tls_cert and --tls_key"]),
        ("--scheduler=local:1 --tls_ca=mine.npz", ["--tls_cert, --tls_key is missing"]),
        ("--scheduler=local:1 --chunk_timeout=0", ["chunk_timeout"]),
        ("--scheduler=local:1 --stocRound --members=w2a4:low", ["drop --scheduler"]),
        ("--mixed_workers", ["--mixed_workers is read with --scheduler only"]),
        ("--tls_key=mine.npz", ["--tls_key is read with --scheduler only"]),
    ],
)
def test_flags_that_mean_nothing_are_refused(run, folder, flags, texts):
    assert_refused(run(ATTACK + "--out=refused " + flags), *texts)
    assert not (folder / "refused").exists()


def test_a_scheduler_that_does_not_answer_and_dask_that_is_missing_are_one_line(run, monkeypatch):
    monkeypatch.setattr(connection, "ANSWER", 1)
    line = ATTACK + "--out=refused --scheduler=tcp://127.0.0.1:9"
    assert_refused(run(line), "no scheduler answers at tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert_refused(run(line), "--scheduler needs Dask", "pip install 'empir[cluster]'")


def test_without_a_scheduler_dask_is_not_imported(folder):
    code = "import sys; from empir.commands import attack, robustness, reproduce, cluster_flags; "
    code += "sys.exit(bool({'dask', 'distributed'} & set(sys.modules)))"
    assert subprocess.call([sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH=ROOT)) == 0
