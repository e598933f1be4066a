"""The environment is checked and recorded; a wrong one is told in one line with the fix."""

import glob
import os
import subprocess
import sys
import types

import pytest

from empir import runtime
from empir.errors import EmpirError
from tests.support import ROOT


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


@pytest.mark.parametrize("module", ["empir.nn.cached", "empir.nn.layers", "empir.fast.engine"])
def test_networks_load_tensorflow_by_the_runtime(module):
    """It sets what oneDNN and OpenMP read when they are loaded, and says what is wrong."""
    script = "import importlib, sys; sys.modules['tensorflow'] = None; importlib.import_module(%r)"
    environment = dict(os.environ, PYTHONPATH=runtime.ROOT)
    command = [sys.executable, "-c", script % module]
    process = subprocess.run(command, env=environment, stderr=subprocess.PIPE, timeout=120)
    assert b"UnsupportedEnvironment: cannot import TensorFlow and Keras" in process.stderr


def test_another_python_is_named_with_the_fix(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    with pytest.raises(runtime.UnsupportedEnvironment, match="3.7, .* is Python 3.11: run scripts"):
        runtime.require_python()


def test_the_package_compiles_on_python_3_8():
    """NVIDIA's build of TensorFlow 1.15, which is not here, is for that Python."""
    script = ". scripts/find_python.sh; find_python 3.8"
    found = subprocess.run(["bash", "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    if found.returncode:
        pytest.skip("there is no Python 3.8")
    program = "import sys; [compile(open(p, 'rb').read(), p, 'exec') for p in sys.argv[1:]]"
    files = glob.glob(os.path.join(ROOT, "empir", "**", "*.py"), recursive=True)
    assert len(files) > 100
    subprocess.run([found.stdout.decode().strip(), "-c", program, *files], check=True)


def test_building_graphs_looks_for_no_deprecations(monkeypatch):
    """That takes a tenth of the time, and TensorFlow logs errors alone here."""
    monkeypatch.setattr("tensorflow_core.python.util.tf_inspect.getcallargs", None)
    with runtime.tf.Graph().as_default():
        runtime.tf.reduce_sum(runtime.tf.zeros([2]))


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


@pytest.mark.slow
def test_each_session_has_its_own_threads():
    """A first session of one thread, as commands have, must not block a call within a call."""
    script = """if True:
        import numpy as np
        from empir import runtime
        from empir.runtime import tf

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


@pytest.mark.parametrize(
    "value, threads", [("7", 7), ("2,1", 2), (" 3 , 4", 3), ("", None), ("  ", None), ("512", 512)]
)
def test_the_first_level_of_openmps_variable_counts(monkeypatch, value, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    runtime.configure()
    assert runtime.threads() == (threads or runtime.available_cpus())


@pytest.mark.parametrize("value", ["abc", "0", "-1", "2,", "2,0", "513", "1e3", "\u0663", "9" * 30])
def test_a_wrong_number_of_threads_is_named(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with pytest.raises(EmpirError, match="OMP_NUM_THREADS=%s: set it to a number of 1" % value):
        runtime.configure()


KERAS_JSON = {
    '{"floatx": "float64", "image_data_format": "channels_first", "epsilon": 0.5}': "theano",
    '{"floatx": "none of them", "backend": "theano"}': "",
}


@pytest.mark.slow
def test_keras_is_as_the_networks_need_it_whatever_its_settings(tmp_path):
    """Of a process for each: Keras reads its settings once."""
    script = "from empir.runtime import keras, tf; import os; b = keras.backend; "
    script += "print(b.backend(), b.floatx(), b.image_data_format(), b.epsilon(), "
    script += "tf.keras.backend.floatx(), os.environ['KERAS_BACKEND'])"
    for text, variable in KERAS_JSON.items():
        (tmp_path / ".keras").mkdir(exist_ok=True)
        (tmp_path / ".keras" / "keras.json").write_text(text)
        environment = dict(os.environ, PYTHONPATH=runtime.ROOT, HOME=str(tmp_path))
        environment["KERAS_BACKEND"] = variable
        told = subprocess.check_output([sys.executable, "-c", script], env=environment, timeout=120)
        expected = "tensorflow float32 channels_last 1e-07 float32 " + variable
        assert told.decode().strip() == expected.strip()


def test_keras_that_was_imported_with_other_settings_is_refused(monkeypatch):
    from empir.runtime import keras

    monkeypatch.setattr(keras.backend, "floatx", lambda: "float64")
    message = "imported with the settings tensorflow, float64, channels_last, but EMPIR needs"
    with pytest.raises(runtime.UnsupportedEnvironment, match=message):
        runtime.load_tensorflow()
