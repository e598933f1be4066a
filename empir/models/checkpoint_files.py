"""The files of a released checkpoint: found, read, and written complete or not at all.

A released checkpoint is a TensorFlow checkpoint whose variables have the names of docs/original.md,
Checkpoint variables ("fp_conv1_init/k", "lp_conv2_bin_init/k", ...) and hold latent float32
weights. Optimizer slots, the step counter and the teacher of a distilled network may be present and
are ignored.
"""

import glob
import hashlib
import os
import shutil
import tempfile
from typing import Dict

import numpy as np

from empir import runtime
from empir.errors import CheckpointError

STAGING = ".saving-"  # beginning of the name of the folder in which `save` prepares the files

_NOT_WEIGHTS = ("global_step", "beta1_power", "beta2_power")

_UNREADABLE = (
    "checkpoint %s cannot be read (%s): a file of it is missing or corrupt, fetch it again"
)


def find_prefix(path: str) -> str:
    """Prefix of the newest checkpoint at `path`.

    Args:
      path: a directory (with or without TensorFlow's `checkpoint` file, whose paths may be stale)
        or a checkpoint prefix such as DIR/model-7035.

    Raises:
      CheckpointError: if there is none.
    """
    if os.path.isdir(path):
        try:
            prefixes = _prefixes(path)
        except OSError as error:
            raise CheckpointError("cannot read the folder %s: %s" % (path, error.strerror))
        if not prefixes:
            raise CheckpointError("no checkpoint in %s: it holds no *.index file" % path)
        named = _named_by_state_file(path)
        return named if named in prefixes else prefixes[-1]
    for suffix in (".index", ".meta"):
        if path.endswith(suffix):
            path = path[: -len(suffix)]
    if os.path.exists(path + ".index"):
        return path
    raise CheckpointError(
        "no checkpoint at %s: give a directory that holds one, or a prefix such as DIR/model" % path
    )


def has_checkpoint(path: str) -> bool:
    """Whether `find_prefix(path)` would find one."""
    try:
        find_prefix(path)
    except CheckpointError:
        return False
    return True


def _prefixes(directory):
    stems = [name[: -len(".index")] for name in os.listdir(directory) if name.endswith(".index")]

    def step(stem):
        tail = stem.rsplit("-", 1)[-1]
        return (int(tail) if tail.isdigit() else -1, stem)

    return [os.path.join(directory, stem) for stem in sorted(stems, key=step)]


def _named_by_state_file(directory):
    path = os.path.join(directory, "checkpoint")
    if not os.path.isfile(path):
        return None
    try:
        with open(path) as file:
            first = file.readline(4096)
    except (OSError, UnicodeDecodeError):
        return None
    name = first.partition(":")[2].strip().strip('"')
    return os.path.join(directory, os.path.basename(name))


def read(path: str) -> Dict[str, np.ndarray]:
    """Read the weights of a checkpoint: released variable name -> float32 array.

    Raises:
      CheckpointError: if there is no checkpoint, it is truncated or corrupt, a file of it is no
        regular file, or a weight is not float32, NaN or infinite.
    """
    from empir.runtime import tf

    prefix = find_prefix(path)
    data = glob.glob(glob.escape(prefix) + ".data-*")
    for file in [prefix + ".index"] + data:
        if not os.path.isfile(file):
            raise CheckpointError("checkpoint %s: %s is not a regular file" % (prefix, file))
    try:
        reader = tf.train.NewCheckpointReader(prefix)
        arrays = _read(reader, prefix, sum(os.path.getsize(file) for file in data))
    except (tf.errors.OpError, OSError, RuntimeError) as error:
        raise CheckpointError(_UNREADABLE % (prefix, str(error).split("\n")[0]))
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError("checkpoint %s: %s holds NaN or infinity" % (prefix, name))
    return arrays


def _read(reader, prefix, size):
    """The weights of an open checkpoint whose data files have `size` bytes together."""
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    names = sorted(name for name in shapes if not _is_left_out(name))
    for name in names:
        if types[name].name != "float32":
            raise CheckpointError(
                "checkpoint %s: %s is of type %s, but weights are float32"
                % (prefix, name, types[name].name)
            )
    # Before memory is taken for what a damaged index claims.
    if sum(4 * int(np.prod(shapes[name], dtype=np.float64)) for name in names) > size:
        raise CheckpointError(_UNREADABLE % (prefix, "its index names more than its data hold"))
    return {name: reader.get_tensor(name) for name in names}


def _is_left_out(name):
    """Whether a variable is the training's: its optimizer's, or a distillation's teacher's."""
    leaf = name.rsplit("/", 1)[-1]
    return leaf in _NOT_WEIGHTS or leaf in ("Adam", "Adam_1") or name.startswith("teacher_")


def digest(arrays: Dict[str, np.ndarray]) -> str:
    """sha256 of weights: of each name, shape and the little-endian float32 bytes, sorted by name.

    The same weights have the same digest whatever else the checkpoint's files hold.
    """
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], "<f4")
        sha.update(("%s %s\n" % (name, list(array.shape))).encode("utf8"))
        sha.update(array.tobytes())
    return sha.hexdigest()


def save(path: str, arrays: Dict[str, np.ndarray], name: str = "model"):
    """Write weights as a released checkpoint: PATH/{checkpoint,NAME.data..,NAME.index,NAME.meta}.

    Args:
      path: directory; made if missing, and left unchanged until all files are complete.
      arrays: released variable name -> float32 array.

    Raises:
      CheckpointError: if the directory cannot be written.
    """
    from empir.runtime import tf

    try:
        os.makedirs(path, exist_ok=True)
        staging = tempfile.mkdtemp(prefix=STAGING, dir=path)
    except OSError as error:
        raise CheckpointError("cannot write a checkpoint to %s: %s" % (path, error.strerror))
    try:
        _save(tf, staging, arrays, name)
        for file_name in sorted(os.listdir(staging), key=lambda f: f.endswith(".index")):
            os.replace(os.path.join(staging, file_name), os.path.join(path, file_name))
    except (OSError, tf.errors.OpError) as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError("cannot write a checkpoint to %s: %s" % (path, reason))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _save(tf, folder, arrays, name):
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {n: tf.Variable(tf.zeros(a.shape), name=n) for n, a in sorted(arrays.items())}
        runtime.assign({variables[n]: a for n, a in arrays.items()}, session)
        tf.train.Saver(variables).save(session, os.path.join(folder, name))
    # TensorFlow's own file holds the absolute path of the staging folder.
    with open(os.path.join(folder, "checkpoint"), "w") as file:
        for key in ("model_checkpoint_path", "all_model_checkpoint_paths"):
            file.write('%s: "%s"\n' % (key, name))
