"""The environment is checked and recorded; a wrong one is told in one line with the fix."""

import os
import subprocess
import sys
import types

import pytest

from empir import runtime
from empir.errors import EmpirError


def fake(version):
    """A module that claims a version."""
    module = types.ModuleType("fake")
    module.__version__ = version
    return module


@pytest.mark.parametrize(
    "name, module, message",
    [
        ("tensorflow", fake("2.4.0"), "needs TensorFlow 1.15, found 2.4.0: run scripts/setup.sh"),
        ("tensorflow", fake("1.14.0"), "needs TensorFlow 1.15, found 1.14.0"),
        ("tensorflow", None, "cannot import TensorFlow and Keras .*: run scripts/setup.sh"),
        ("keras", fake("2.3.1"), "needs Keras 2.2.4, found 2.3.1"),
    ],
)
def test_wrong_versions_are_named_with_the_fix(monkeypatch, name, module, message):
    monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(runtime.UnsupportedEnvironment, match=message) as caught:
        runtime.load_tensorflow()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, EmpirError) and isinstance(caught.value, ImportError)


def test_another_python_is_named_with_the_fix(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    with pytest.raises(runtime.UnsupportedEnvironment, match="3.7 .* is Python 3.11: run scripts"):
        runtime.require_python()


def test_threads_are_set_for_the_machine_unless_the_user_did(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    runtime.configure()
    assert os.environ["OMP_NUM_THREADS"] == str(runtime.available_cpus())
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    runtime.configure()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    runtime.configure(3)
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_sessions_take_the_thread_count(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with runtime.session() as session:
        assert session._config.intra_op_parallelism_threads == 3
        assert session._config.gpu_options.allow_growth


def test_provenance_says_what_ran_where():
    versions, commit = runtime.provenance()
    assert versions["python"].startswith("3.7.") and versions["tensorflow"].startswith("1.15.")
    assert versions["keras"] == "2.2.4" and versions["cleverhans"] == "2.1.0"
    assert versions["device"]
    assert commit is None or len(commit.split("-")[0]) == 40


def test_outside_a_checkout_there_is_no_commit(monkeypatch):
    def fails(*_, **__):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "check_output", fails)
    assert runtime.git_commit() is None


def test_peak_memory_is_in_megabytes():
    assert 50 < runtime.peak_memory_mb() < 100000  # this process has TensorFlow loaded


def test_each_session_has_its_own_threads():
    """A first session of one thread, as commands have, must not block a call within a call."""
    script = """if True:
        import numpy as np
        from empir import runtime
        from empir.backend import tf

        with runtime.session(operations=1) as first:
            first.run(tf.constant(1))
        with runtime.session(operations=2) as session:
            x = tf.placeholder(tf.float32, [None])
            within = tf.py_func(lambda value: session.run(2 * x, {x: value}), [x], tf.float32)
            print(session.run(within, {x: np.ones(1, np.float32)}))
    """
    environment = dict(os.environ, PYTHONPATH=runtime.ROOT)
    told = subprocess.check_output([sys.executable, "-c", script], env=environment, timeout=120)
    assert told.split() == [b"[2.]"]
