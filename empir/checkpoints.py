"""Checkpoints in the authors' released format: find, read, check, assign, save, verify.

A released checkpoint is a TensorFlow checkpoint whose variables have the names of FACTS 2.9
("fp_conv1_init/k", "lp_conv2_bin_init/k", ...) and hold latent float32 weights. Optimizer slots,
the step counter and the teacher of a distilled network may be present and are ignored. Matching is
by name and shape, never by position.

    python -m empir.checkpoints verify PATH...   say what a directory holds
    python -m empir.checkpoints manifest         list the members of checkpoints/ in its manifest
"""

import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
from typing import Dict

import numpy as np

from empir import clone, commandline, identity, process
from empir.errors import CheckpointError, EmpirError
from empir.models import Architecture, architectures, family, weights
from empir.published import MANIFEST
from empir.runs import write_json
from empir.runtime import ROOT

log = logging.getLogger(__name__)

STAGING = ".saving-"  # beginning of the name of the folder in which `save` prepares the files

FAMILIES = {"fp": "full-precision", "lp": "low-precision"}
_NOT_WEIGHTS = ("global_step", "beta1_power", "beta2_power")


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
    if not identity.is_regular(path):
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
    from empir.backend import tf

    prefix = find_prefix(path)
    data = glob.glob(glob.escape(prefix) + ".data-*")
    for file in [prefix + ".index"] + data:
        if not identity.is_regular(file):
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


_UNREADABLE = (
    "checkpoint %s cannot be read (%s): a file of it is missing or corrupt, fetch it again"
)


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


def read_member(path: str, network: Architecture, precisions) -> Dict[str, np.ndarray]:
    """Read the weights of a network of which architecture and bits are known.

    Args:
      path: directory or prefix.
      network, precisions: what the caller takes it for.

    Raises:
      CheckpointError: see `read`, and if training.json beside the checkpoint contradicts the
        architecture, the bits or the weights.
    """
    arrays = read(path)
    folder = os.path.dirname(find_prefix(path))
    identity.check_record(folder, network, precisions, digest(arrays))
    return arrays


def read_initial(path: str, network: Architecture, precisions) -> Dict[str, np.ndarray]:
    """Read the weights that a training starts from.

    They may have been trained at other bits than those they are trained on with, which is said.

    Args:
      path: directory or prefix.
      network, precisions: of the training.

    Raises:
      CheckpointError: see `read`, and if training.json beside the checkpoint is of other weights
        or of another network.
    """
    folder = os.path.dirname(find_prefix(path))
    record = identity.training_record(folder) or {}
    told, asked = identity.bits(record.get("precisions", [])), identity.bits(precisions)
    if record and told != asked:
        log.info("%s was trained as %s and is trained on as %s", path, told, asked)
    arrays = read(path)
    identity.check_record(folder, network, record.get("precisions", precisions), digest(arrays))
    return arrays


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


def compare(arrays: Dict[str, np.ndarray], expected: Dict[str, tuple]):
    """Differences between a checkpoint's names and shapes and the expected ones, as short texts."""
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    return (
        ["missing %s %s" % (n, _shape(s)) for n, s in expected.items() if n not in found]
        + ["not expected %s %s" % (n, _shape(s)) for n, s in found.items() if n not in expected]
        + [
            "%s is %s, expected %s" % (n, _shape(found[n]), _shape(s))
            for n, s in expected.items()
            if n in found and found[n] != tuple(s)
        ]
    )


def _shape(shape):
    return "(" + ", ".join(map(str, shape)) + ")"


def assign(
    arrays: Dict[str, np.ndarray], network: Architecture, precisions, model, session, path
) -> str:
    """Assign weights under their released names to a model of that architecture and precision.

    Args:
      arrays: released variable name -> float32 array.
      network: the model's architecture.
      precisions: the model's precision per quantized layer; decides between the released names
        "fp_..." and "lp_...".
      model: a model that `network.build` returned.
      session: the session in which the variables get their values.
      path: where the weights came from, for errors.

    Returns:
      The weights' `digest`.

    Raises:
      CheckpointError: if their names or shapes are not this network's, and then all differences
        are listed, or if no training ends with them (`identity.check_weights`).
    """
    names = network.released_names[family(precisions)]
    variables = weights(model)
    expected = {released: tuple(variables[own].shape.as_list()) for own, released in names.items()}
    differences = compare(arrays, expected)
    if differences:
        raise CheckpointError(
            "checkpoint %s is not a %s %s: %s%s"
            % (
                path,
                FAMILIES[family(precisions)],
                network.name,
                "; ".join(differences),
                _hint(network, arrays, expected),
            )
        )
    identity.check_weights(network, precisions, arrays, path)
    for own, released in names.items():
        variables[own].load(arrays[released], session)
    return digest(arrays)


def _hint(network, arrays, expected):
    """What to pass instead, where the checkpoint is of another family, precision or width."""
    found = identity.width(network, {name: array.shape for name, array in arrays.items()})
    asked = identity.width(network, expected)
    if set(arrays) == set(expected) and found != asked and None not in (found, asked):
        text = " (its nb_filters is %d, but nb_filters=%d is asked for: leave that out)"
        return text % (found, asked)
    if set(arrays) & set(expected):
        return ""
    families = {name[:3] for name in arrays}
    if families == {"lp_"}:
        return " (a low-precision one's names: give --lowprecision, --wbits and --abits)"
    if families == {"fp_"}:
        return " (a full-precision one's names: give it as --model_path3, or no bits)"
    return ""


def save(path: str, arrays: Dict[str, np.ndarray], name: str = "model"):
    """Write weights as a released checkpoint: PATH/{checkpoint,NAME.data..,NAME.index,NAME.meta}.

    Args:
      path: directory; made if missing, and left unchanged until all files are complete.
      arrays: released variable name -> float32 array.

    Raises:
      CheckpointError: if the directory cannot be written.
    """
    from empir.backend import tf

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
        for variable_name, variable in variables.items():
            variable.load(arrays[variable_name], session)
        tf.train.Saver(variables).save(session, os.path.join(folder, name))
    # TensorFlow's own file holds the absolute path of the staging folder.
    with open(os.path.join(folder, "checkpoint"), "w") as file:
        for key in ("model_checkpoint_path", "all_model_checkpoint_paths"):
            file.write('%s: "%s"\n' % (key, name))


def released_arrays(network: Architecture, precisions, model, session) -> Dict[str, np.ndarray]:
    """A model's weights under their released names, ready for `save`."""
    variables = weights(model)
    names = network.released_names[family(precisions)]
    values = session.run({own: variables[own] for own in names})
    return {released: values[own] for own, released in names.items()}


def manifest() -> dict:
    """The manifest that comes with the package: our members and the authors' nine."""
    with open(MANIFEST) as file:
        return json.load(file)


def describe(path: str) -> str:
    """One line on what a checkpoint holds: architecture, family, digest, and whether it is known.

    Raises:
      CheckpointError: if it cannot be read or is of no known network.
    """
    arrays = read(path)
    sha256 = digest(arrays)
    known = [
        "%s of empir/published/manifest.json" % entry["path"]
        for entry in (manifest()["members"] if os.path.exists(MANIFEST) else ())
        if entry["sha256"] == sha256
    ]
    for network in architectures().values():
        for kind, names in network.released_names.items():
            if set(names.values()) == set(arrays):
                return "%s: %s %s, %d weights, sha256 %s, %s" % (
                    path,
                    FAMILIES[kind],
                    network.name,
                    sum(array.size for array in arrays.values()),
                    sha256,
                    known[0] if known else "not one of empir/published/manifest.json",
                )
    raise CheckpointError(
        "%s is of no network that this project knows; its variables: %s"
        % (path, ", ".join("%s %s" % (n, _shape(a.shape)) for n, a in arrays.items()))
    )


def update_manifest():
    """Write the members below checkpoints/, as their training.json say, to the manifest.

    Raises:
      EmpirError: if the package is not run from a clone, or weights are not those of training.json.
    """
    clone.require("python -m empir.checkpoints manifest")
    entries = []
    pattern = os.path.join(ROOT, "checkpoints", "**", "training.json")
    for path in sorted(glob.glob(pattern, recursive=True)):
        folder = os.path.dirname(path)
        with open(path) as file:
            training = json.load(file)
        sha256 = digest(read(folder))
        if sha256 != training["sha256"]:
            raise CheckpointError("%s is not of the weights beside it" % path)
        entries.append(
            {
                "path": os.path.relpath(folder, ROOT),
                "architecture": training["network"],
                "precision": training["precisions"][0],
                "sha256": sha256,
                "clean_accuracy": training["clean_accuracy"],
                "seed": training["seed"],
                "objective": training.get("objective", {"name": "cross-entropy"})["name"],
                "command": training["command"],
                "files": {name: _sha256(os.path.join(folder, name)) for name in _files(folder)},
            }
        )
    content = dict(manifest(), members=entries)
    write_json(MANIFEST, content)


def _files(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith("model."))


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def main(argv):
    """Run a command of the module's docstring; returns the exit status.

    `verify` prints one line for each checkpoint; the exit status is 2 if one is bad.
    """
    if argv == ["manifest"]:
        update_manifest()
        return 0
    if len(argv) < 2 or argv[0] != "verify" or any(word.startswith("-") for word in argv):
        raise EmpirError("usage: python -m empir.checkpoints verify PATH... (or: manifest)")
    status = 0
    for path in argv[1:]:
        try:
            print(process.one_line(describe(path)))
        except CheckpointError as error:
            status = process.complain(str(error))
    return status


if __name__ == "__main__":
    commandline.run_words(main, __doc__)
