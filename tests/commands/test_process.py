"""How a process ends: signals, streams, and what the machine refuses are one line, no traceback."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from empir.commands import process
from empir.errors import EmpirError
from empir.runtime import tf
from tests.support import ROOT
from tests.support.released import save_members


@pytest.fixture
def end(capfd):
    """`exit_with` in this process: function -> (status, standard output, standard error)."""

    def run(function):
        with pytest.raises(SystemExit) as ended:
            process.exit_with(function)
        return (ended.value.code or 0,) + tuple(capfd.readouterr())

    return run


def raising(error):
    """A function that raises an exception."""

    def run():
        raise error

    return run


TOLD = [
    (EmpirError("two\nlines\x1b[31m\u202e"), 2, r"two\nlines\x1b[31m\u202e"),
    (FileNotFoundError(2, "No such file or directory", "a"), 2, "a: No such file or directory"),
    (PermissionError(13, "Permission denied", b"a\n"), 2, r"a\n: Permission denied"),
    (OSError(18, "Invalid cross-device link", "a", None, "b"), 2, "a and b: Invalid cross-device"),
    (OSError(28, "No space left on device"), 2, "No space left on device"),
    (OSError("unable to open file"), 2, "unable to open file"),
    (MemoryError(), 2, "there is not enough memory: take a smaller batch"),
    (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), 2, "not enough memory"),
    (
        tf.errors.ResourceExhaustedError(None, None, "x/model.data; No space left on device\nat"),
        2,
        "TensorFlow: x/model.data; No space left on device",
    ),
    (tf.errors.PermissionDeniedError(None, None, "logs; denied"), 2, "TensorFlow: logs; denied"),
    (KeyboardInterrupt(), 130, "interrupted; the same command goes on from what it kept"),
]


@pytest.mark.parametrize("error, status, says", TOLD, ids=[repr(row[0]) for row in TOLD])
def test_what_is_no_defect_is_one_line(end, error, status, says):
    found = end(raising(error))
    assert found[:2] == (status, "")
    assert re.match(r"error: [^\n\x00-\x1f]+\n\Z", found[2]) and says in found[2]


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        process.exit_with(lambda: 1 / 0)


SIGNALS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up", "SIGQUIT": "quit"}


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_each_signal_says_how_to_go_on(end, name):
    number, left = getattr(signal, name), []

    def run():
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            left.append("in order")

    before = signal.getsignal(number)
    status, out, err = end(run)
    assert (status, out, left) == (128 + number, "", ["in order"])
    assert err == "error: %s; %s\n" % (SIGNALS[name], process.GO_ON)
    assert signal.getsignal(number) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_call_that_does_not_return(name):
    """As TensorFlow's may not for minutes: hashing stands for it, which asks for no signals."""
    code = (
        "import hashlib\n"
        "from empir.commands import process\n"
        "def run():\n"
        "    print('ready', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2 ** 31 - 1)\n"
        "process.exit_with(run)\n"
    )
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    running = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **streams)
    assert running.stdout.readline() == "ready\n"
    number = getattr(signal, name)
    running.send_signal(number)
    told = running.communicate(timeout=process.PATIENCE + 20)[1]
    assert running.returncode == 128 + number
    assert told == "error: %s; %s\n" % (SIGNALS[name], process.GO_ON)


def test_what_is_ignored_stays_ignored_as_under_nohup(end):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert end(lambda: os.kill(os.getpid(), signal.SIGHUP)) == (0, "", "")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_during_an_import_is_not_swallowed(end, tmp_path, monkeypatch):
    (tmp_path / "swallowing.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(0.2)\n"
        "except BaseException:\n"
        "    pass\n"
        "done = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def run():
        import swallowing

        assert swallowing.done
        time.sleep(10)

    status, _, err = end(run)
    assert status == 130 and err.startswith("error: interrupted; ")


def run_shell(line, **arguments):
    """A shell's line about $PYTHON, in the checkout: (status, standard error)."""
    environment = dict(os.environ, PYTHONPATH=ROOT, PYTHON=sys.executable, **arguments)
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=environment, stderr=subprocess.PIPE, timeout=120
    )
    return done.returncode, done.stderr.decode()


FULL = "error: standard output cannot be written: No space left on device\n"
CLOSED = "error: standard output is closed: redirect it, to /dev/null if need be\n"
STREAMS = [
    # a longer output than a buffer, and a shorter one
    ('"$PYTHON" -m empir cost --dataset=all --layers >/dev/full', (2, FULL)),
    ('"$PYTHON" -m empir --version >/dev/full', (2, FULL)),
    ('"$PYTHON" -m empir cost >&-', (2, CLOSED)),
    ('"$PYTHON" -m empir cost --members=x 2>/dev/full', (2, "")),
    ('"$PYTHON" -m empir cost --members=x 2>&-', (2, "")),
]


@pytest.mark.slow
@pytest.mark.parametrize("line, expected", STREAMS, ids=[row[0] for row in STREAMS])
def test_output_that_is_lost_is_told_by_the_status(line, expected):
    assert run_shell(line) == expected


@pytest.mark.slow
def test_a_path_that_the_output_cannot_encode_is_escaped(tmp_path):
    folder = str(tmp_path / "m\u00e9moire\n")
    os.mkdir(folder)
    save_members(folder)
    line = 'cd "$FOLDER"; "$PYTHON" -m empir checkpoints verify "$FOLDER/model3" | cat'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=dict(
            os.environ,
            PYTHONPATH=ROOT,
            PYTHON=sys.executable,
            FOLDER=folder,
            LANG="C",
            PYTHONIOENCODING="ascii",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"m\\xe9moire\\n/model3: full-precision MNISTconv" in done.stdout
    assert done.stdout.count(b"\n") == 1


@pytest.mark.slow
def test_a_killed_attack_says_how_to_go_on_and_does(tmp_path):
    """Of a process: a signal while TensorFlow computes."""
    save_members(str(tmp_path))
    line = (
        "--model_path=model3 --nb_filters=4 --attack=pgd --nb_iter=100 --nb_samples=300 --out=out"
    )
    words = [sys.executable, os.path.join(ROOT, "examples", "mnist_attack.py")] + line.split()
    environment = dict(os.environ, HOME=str(tmp_path), https_proxy="http://127.0.0.1:9")
    arguments = dict(cwd=str(tmp_path), env=environment, stderr=subprocess.PIPE)
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, **arguments)
    partial = tmp_path / "out" / "partial"
    while not list(partial.glob("chunk-*.npz")):
        assert running.poll() is None
        time.sleep(0.02)
    running.terminate()
    told = running.communicate()[1].decode()
    assert running.returncode == 143 and "Traceback" not in told
    assert told.splitlines()[-1] == "error: terminated; " + process.GO_ON
    done = subprocess.run(words + ["--resume"], stdout=subprocess.DEVNULL, **arguments)
    assert done.returncode == 0 and b" of 300 examples are done" in done.stderr
