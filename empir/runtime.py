"""What surrounds every run: TensorFlow and Keras, threads, sessions, progress bars.

`from empir.runtime import keras, tf` is how every module gets TensorFlow and Keras. They are loaded
when a module first asks for them, without their start-up noise. This module itself needs neither
them nor NumPy, so that a wrong environment is told in one line, and so that the number of threads
is set before TensorFlow reads it.
"""

import contextlib
import functools
import io
import logging
import os
import re
import sys
import warnings

from empir.errors import EmpirError

#: Of this package.
VERSION = "0.4.0"

#: What this package runs on: Python 3.7, and 3.8 with NVIDIA's build of TensorFlow 1.15.
PYTHONS = ((3, 7), (3, 8))
TENSORFLOW = "1.15"
KERAS = "2.2.4"
#: Keras' backend, float type and order of axes that the networks are written for.
KERAS_SETTINGS = ("tensorflow", "float32", "channels_last")
DEFAULT_SEED = 1237  # the graph seed of the original's MNIST script (docs/original.md, Flags)

#: Most threads to compute with: at many more the process would do nothing but start them.
MOST_THREADS = 512

#: Most shares of a chunk of images, and least images of a share.
MOST_SHARES, LEAST_SHARE = 8, 4

#: The folder that this package lies in: that of the checkout, or of an environment's packages.
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_shares = 1  # see `configure`


class UnsupportedEnvironment(EmpirError, ImportError):
    """The Python, TensorFlow or Keras at hand is not one that this project runs on."""


def require_python():
    """Raise `UnsupportedEnvironment` unless there is a TensorFlow 1.15 for this Python."""
    if sys.version_info[:2] not in PYTHONS:
        raise UnsupportedEnvironment(
            "EMPIR needs Python 3.7, or 3.8 with nvidia-tensorflow (TensorFlow 1.15 runs on no "
            "later one), but this is Python %d.%d: run scripts/setup.sh and use .venv/bin/python"
            % sys.version_info[:2]
        )


def configure(num_threads=None, images=1):
    """Set what TensorFlow and oneDNN read once, when they are loaded: log level, threads.

    Args:
      num_threads: threads to compute with; None = $OMP_NUM_THREADS (of a list as 4,2 the first),
        or else the processors this process may use. Other variables that the user's environment
        already sets are left alone.
      images: in a chunk, for attacks: their operations are too short for several threads, so on
        CPUs each thread computes a share of the chunk if there are enough images (`share_count`).
        For everything else, training above all, operations take all threads.

    Raises:
      EmpirError: for a number of threads that is not 1..`MOST_THREADS`.
    """
    global _shares
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KMP_WARNINGS", "0")
    # Idle OpenMP workers that spin steal the cores from TensorFlow's own pool.
    os.environ.setdefault("KMP_BLOCKTIME", "1")
    # NVIDIA's build multiplies by TF32 on Ampere, whose 10 bits of mantissa put activations on
    # other levels of their quantizers.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    if _is_amd():
        # MKL of that time knows Intel's processors only, and falls back to SSE on others: matrix
        # products are 2.7 times as fast with its AVX2 code.
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
    if num_threads:
        os.environ["OMP_NUM_THREADS"], _shares = str(num_threads), 1
    else:
        os.environ["OMP_NUM_THREADS"] = str(_asked_threads() or min(available_cpus(), MOST_THREADS))
    if _shares == 1:
        total = threads()
        _shares = max(min(total, MOST_SHARES, images // LEAST_SHARE), 1)
        os.environ["OMP_NUM_THREADS"] = str(total // _shares)


def _asked_threads():
    """Threads of $OMP_NUM_THREADS, whose first level counts here; None if it is not set."""
    text = os.environ.get("OMP_NUM_THREADS", "").strip()
    if not text:
        return None
    levels = [level.strip() for level in text.split(",")]
    if not all(re.match(r"[0-9]{1,9}\Z", level) and int(level) for level in levels):
        levels = ["0"]
    if not 1 <= int(levels[0]) <= MOST_THREADS:
        raise EmpirError(
            "OMP_NUM_THREADS=%s: set it to a number of 1..%d, or unset it" % (text, MOST_THREADS)
        )
    return int(levels[0])


def _is_amd():
    """Whether this is an AMD processor with AVX2, as far as Linux tells."""
    try:
        with open("/proc/cpuinfo") as file:
            first = file.read(4096)
    except OSError:
        return False
    return "AuthenticAMD" in first and "avx2" in first


def threads() -> int:
    """Number of threads to compute with."""
    return _asked_threads() * _shares


def parallelism() -> str:
    """What decides the order of sums, which changes results by rounding: threads and shares."""
    return "%d threads, %d shares" % (threads(), share_count())


def share_count() -> int:
    """Number of shares that attacks compute side by side; 1 on GPUs, and unless configured."""
    return _shares if _shares > 1 and not gpus() else 1


def available_cpus():
    """Number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_tensorflow():
    """Import TensorFlow 1.15 and Keras 2.2.4 without their start-up noise; return both.

    Raises:
      UnsupportedEnvironment: one line with the fix, if either is missing or of another version.
    """
    require_python()
    configure()
    fix = "run scripts/setup.sh, or pip install -e .[cpu] (or .[gpu])"
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), _own_keras():
            warnings.simplefilter("ignore")
            import keras
            import tensorflow as tf
    except ImportError as error:
        raise UnsupportedEnvironment(f"cannot import TensorFlow and Keras ({error}): {fix}")
    if not tf.__version__.startswith(TENSORFLOW + "."):
        raise UnsupportedEnvironment(
            f"EMPIR needs TensorFlow {TENSORFLOW}, found {tf.__version__}: {fix}"
        )
    if keras.__version__ != KERAS:
        raise UnsupportedEnvironment(f"EMPIR needs Keras {KERAS}, found {keras.__version__}: {fix}")
    backend = keras.backend
    found = (backend.backend(), backend.floatx(), backend.image_data_format())
    if found != KERAS_SETTINGS:
        raise UnsupportedEnvironment(
            f"Keras was imported with the settings {', '.join(found)}, but EMPIR needs "
            f"{', '.join(KERAS_SETTINGS)}: import keras from empir.runtime first, or change "
            "KERAS_BACKEND and keras.json"
        )
    from tensorflow.python.util import deprecation

    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    # At that level no deprecation is told; looking for them takes a tenth of a graph's building.
    deprecation._PRINT_DEPRECATION_WARNINGS = False
    return tf, keras


@functools.lru_cache(maxsize=None)
def _loaded():
    return load_tensorflow()


def __getattr__(name):
    """`tf` and `keras`, which are loaded when they are first asked for (PEP 562)."""
    if name in ("tf", "keras"):
        return _loaded()[("tf", "keras").index(name)]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@contextlib.contextmanager
def _own_keras():
    """Imports in it find neither KERAS_BACKEND nor a keras.json, only Keras' own defaults."""
    names = {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def rewriting():
    """The `tf.ConfigProto` by which TensorFlow may rewrite graphs here: without fusing operations.

    intel-tensorflow's fusion of a matrix product, its bias and a sum of two ends the process
    ("key not found: strides"), e.g. on `tf.add_n` of two dense layers. It gains nothing in attacks:
    their time with it and without it is the same. Whatever computes a network asks here: `session`,
    and `function_options` for the functions inside of graphs. Ensembles hold no such sum either, so
    that they run in any `tf.Session`; a model that holds one itself needs `session`.
    """
    tf, _ = _loaded()
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    config = tf.ConfigProto(allow_soft_placement=True)
    config.graph_options.rewrite_options.remapping = RewriterConfig.OFF
    return config


@contextlib.contextmanager
def function_options():
    """Calls of functions that are added to the graph meanwhile are rewritten by `rewriting`.

    A function is rewritten twice: with its session's settings, and with those that were set when
    its call was built.
    """
    from tensorflow.python.eager import context

    state = context.context()
    before = state.function_call_options
    state.function_call_options = context.FunctionCallOptions(config_proto=rewriting())
    try:
        yield
    finally:
        state.function_call_options = before


def session(graph=None, operations: int = 2):
    """A `tf.Session` with thread counts for this machine and GPU memory taken as needed.

    Args:
      graph: default: the default graph.
      operations: of a share that may run at once. Each takes all its threads, so 1 is best, but it
        would deadlock in CleverHans attacks that call the session from a py_func.
    """
    tf, _ = _loaded()
    return tf.Session(graph=graph, config=session_config(operations))


def session_config(operations: int = 2):
    """The `tf.ConfigProto` of `session`, which has the argument."""
    config = rewriting()
    config.intra_op_parallelism_threads = threads() // share_count()
    config.inter_op_parallelism_threads = operations + share_count() - 1
    config.use_per_session_threads = True  # or else the process's first session decides for all
    config.gpu_options.allow_growth = True
    return config


def assign(values, session):
    """Give variables their values in one session call: TensorFlow prepares a graph for each call.

    Args:
      values: variable -> array of its shape.
      session: holds the variables.
    """
    feed = {variable.initializer.inputs[1]: array for variable, array in values.items()}
    session.run([variable.initializer for variable in values], feed)


def cpu_session(graph):
    """A `tf.Session` for the CPU alone whose operations take one thread each, for thread pools."""
    tf, _ = _loaded()
    config = tf.ConfigProto(
        device_count={"GPU": 0},
        intra_op_parallelism_threads=1,
        inter_op_parallelism_threads=available_cpus(),
        use_per_session_threads=True,
    )
    return tf.Session(graph=graph, config=config)


def progress_bar(total: int, title: str, unit: str, enabled: bool = True):
    """A tqdm bar on standard error over `total` units; it is shown on a terminal, if enabled."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        leave=False,
        disable=None if enabled else True,
        dynamic_ncols=True,
    )


def lines_above_bars():
    """A context in which this package's log lines stand above progress bars, not behind them."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    package = logging.getLogger("empir")
    return logging_redirect_tqdm([package] if package.handlers else [])


def gpus():
    """Names of the GPUs that TensorFlow sees, e.g. ["/gpu:0"]."""
    tf, _ = _loaded()
    found = tf.config.experimental.list_physical_devices("GPU")
    return ["/gpu:%d" % number for number in range(len(found))]
