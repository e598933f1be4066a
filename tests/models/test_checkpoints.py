"""Released checkpoints: what is found, read, refused, written and recognised."""

import os
import shutil

import numpy as np
import pytest

from empir.errors import CheckpointError
from empir.models import checkpoints
from empir.models.member import load_member
from empir.nn import architecture, weights
from empir.nn.precision import FULL, Precision
from empir.runtime import tf
from tests.support.released import NAMES, WIDTH, narrow

NETWORK = architecture("MNISTconv")
PRECISION = {"fp": FULL, "lp": Precision(2, 4)}
DATA = "model.data-00000-of-00001"


def assert_same_bits(arrays, expected):
    assert set(arrays) == set(expected)
    for name, array in arrays.items():
        assert array.dtype == np.float32 and array.shape == expected[name].shape
        assert array.tobytes() == expected[name].tobytes()


@pytest.fixture
def saved(tmp_path):
    """Folder of a narrow full-precision checkpoint."""
    path = str(tmp_path / "member")
    checkpoints.save(path, narrow("fp"))
    return path


def assert_refused(error, *texts):
    """The message of a raised error is one line that holds the texts."""
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)


@pytest.mark.parametrize("kind", ["fp", "lp"])
def test_weights_are_read_back_bit_for_bit(tmp_path, kind):
    arrays = narrow(kind)
    name = NAMES["MNISTconv"][kind][0]
    arrays[name][0, 0, 0, :3] = [-0.0, 1e-45, np.finfo(np.float32).max]  # zero, denormal, largest
    checkpoints.save(str(tmp_path), arrays)
    assert_same_bits(checkpoints.read(str(tmp_path)), arrays)


@pytest.mark.parametrize("kind", ["fp", "lp"])
def test_files_have_the_released_names(tmp_path, kind):
    checkpoints.save(str(tmp_path), narrow(kind))
    assert sorted(os.listdir(str(tmp_path))) == ["checkpoint", DATA, "model.index", "model.meta"]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model")
    stored = tf.train.list_variables(str(tmp_path))
    assert tuple(name for name, _ in stored) == NAMES["MNISTconv"][kind]
    assert tuple(NETWORK.released_names[kind].values()) == NAMES["MNISTconv"][kind]


#: Files of a folder, content of its `checkpoint` file (None: no such file), the one to be found.
FOLDERS = {
    "no state file": (["model"], None, "model"),
    "newest step, as a number": (["model-9", "model-10", "model-100"], None, "model-100"),
    "steps before none": (["model", "model-0"], None, "model-0"),
    "the state file's": (["model-9", "model-10"], 'model_checkpoint_path: "model-9"\n', "model-9"),
    "a stale folder": (
        ["model-9", "model-10"],
        'model_checkpoint_path: "/home/authors/mnist/model-9"\n'
        'all_model_checkpoint_paths: "/home/authors/mnist/model-9"\n',
        "model-9",
    ),
    "a stale name": (["model-9", "model-10"], 'model_checkpoint_path: "model-7"\n', "model-10"),
    "an empty state file": (["model-9", "model-10"], "", "model-10"),
    "another file called checkpoint": (["model-9", "model-10"], "\xff\0: \xfe", "model-10"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_the_newest_checkpoint_of_a_folder_is_found(tmp_path, case):
    stems, state, expected = FOLDERS[case]
    for stem in stems:
        (tmp_path / (stem + ".index")).write_bytes(b"")
    if state is not None:
        (tmp_path / "checkpoint").write_bytes(state.encode("latin1"))
    assert checkpoints.find_prefix(str(tmp_path)) == str(tmp_path / expected)
    assert checkpoints.has_checkpoint(str(tmp_path))


@pytest.mark.parametrize("suffix", ["", ".index", ".meta"])
def test_a_prefix_is_taken_with_and_without_a_files_suffix(saved, suffix):
    prefix = os.path.join(saved, "model")
    assert checkpoints.find_prefix(prefix + suffix) == prefix
    assert_same_bits(checkpoints.read(prefix + suffix), narrow("fp"))


@pytest.mark.parametrize("path", ["", "missing", "model", "file", "training-state"])
def test_a_path_without_a_checkpoint_is_named(tmp_path, path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "training-state").mkdir()
    path = os.path.join(str(tmp_path), path)
    with pytest.raises(CheckpointError) as error:
        checkpoints.read(path)
    assert_refused(error, path)
    assert not checkpoints.has_checkpoint(path)


def test_a_moved_folder_with_stale_paths_is_read(saved, tmp_path):
    moved = str(tmp_path / "moved")
    with open(os.path.join(saved, "checkpoint"), "w") as file:
        file.write('model_checkpoint_path: "%s"\n' % os.path.join(saved, "model"))
    shutil.move(saved, moved)
    assert_same_bits(checkpoints.read(moved), narrow("fp"))
    os.remove(os.path.join(moved, "checkpoint"))
    assert_same_bits(checkpoints.read(moved), narrow("fp"))


def test_training_state_in_a_checkpoint_is_ignored(tmp_path):
    arrays = narrow("lp")
    with tf.Graph().as_default(), tf.Session() as session:
        variables = [tf.Variable(array, name=name) for name, array in arrays.items()]
        with tf.variable_scope("train"):
            step = tf.train.get_or_create_global_step()
        loss = tf.add_n([tf.nn.l2_loss(variable) for variable in variables])
        tf.train.AdamOptimizer(0.001).minimize(loss, step)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "model"), step)
    stored = {name for name, _ in tf.train.list_variables(str(tmp_path))}
    state = {"beta1_power", "beta2_power", "train/global_step", "lp_conv1_init/k/Adam"}
    assert state < stored and len(stored) == 4 + 8 + 3
    assert_same_bits(checkpoints.read(str(tmp_path)), arrays)
    assert checkpoints.digest(checkpoints.read(str(tmp_path))) == checkpoints.digest(arrays)


def change(name, edit):
    """A function that edits the bytes of a folder's file."""

    def damage(folder):
        with open(os.path.join(folder, name), "r+b") as file:
            data = bytearray(file.read())
            file.seek(0)
            file.truncate()
            file.write(edit(data))

    return damage


def flipped(data):
    data[len(data) // 2] ^= 0x10
    return data


DAMAGE = {
    "flipped data": change(DATA, flipped),
    "truncated data": change(DATA, lambda data: data[:-4]),
    "empty data": change(DATA, lambda data: b""),
    "missing data": lambda folder: os.remove(os.path.join(folder, DATA)),
    "flipped index": change("model.index", flipped),
    "truncated index": change("model.index", lambda data: data[:-40]),
    "empty index": change("model.index", lambda data: b""),
    "a web page as index": change("model.index", lambda data: b"<html>404</html>" * 9),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named(saved, damage):
    DAMAGE[damage](saved)
    with pytest.raises(CheckpointError) as error:
        checkpoints.read(saved)
    assert_refused(error, os.path.join(saved, "model"), "corrupt")


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", [(name, kind) for name in NAMES for kind in NAMES[name]])
def test_a_member_gets_its_weights_and_their_digest(tmp_path, session, kind, name):
    network, arrays = architecture(name), narrow(kind, network=name)
    checkpoints.save(str(tmp_path), arrays)
    member = load_member(network, PRECISION[kind], str(tmp_path), session, nb_filters=WIDTH)
    own = session.run(weights(member.model))
    names = network.released_names[kind]
    assert tuple(names.values()) == NAMES[name][kind]
    assert_same_bits({names[name]: array for name, array in own.items()}, arrays)
    assert (member.sha256, member.path) == (checkpoints.digest(arrays), str(tmp_path))
    assert_same_bits(
        checkpoints.released_arrays(network, member.precisions, member.model, session), arrays
    )


#: Stored arrays, the kind that is asked for, what the error lists.
REFUSED = {
    "full precision as low precision": (
        narrow("fp"),
        "lp",
        ("missing lp_conv2_bin_init/k (6, 6, 4, 8)", "not expected fp_conv2_init/k (6, 6, 4, 8)")
        + ("missing lp_logits_init/W (8, 10)", "--model_path3"),
    ),
    "low precision as full precision": (
        narrow("lp"),
        "fp",
        ("missing fp_conv1_init/k (8, 8, 1, 4)", "not expected lp_conv1_init/k", "--lowprecision"),
    ),
    "another width": (
        narrow("fp", width=8),
        "fp",
        ("fp_conv1_init/k is (8, 8, 1, 8), expected (8, 8, 1, 4)", "fp_logits_init/W is (16, 10)"),
    ),
    "another network": (
        {"dense/kernel": np.zeros((784, 10), np.float32)},
        "fp",
        ("missing fp_conv1_init/k", "not expected dense/kernel (784, 10)"),
    ),
    "a layer too few": (
        {name: array for name, array in narrow("fp").items() if "conv3" not in name},
        "fp",
        ("missing fp_conv3_init/k (5, 5, 8, 8)",),
    ),
    "a layer too many": (
        dict(narrow("fp"), extra=np.zeros(3, np.float32)),
        "fp",
        ("not expected extra (3)",),
    ),
    "NaN": (
        dict(narrow("fp"), **{"fp_conv3_init/k": np.full((5, 5, 8, 8), np.nan, np.float32)}),
        "fp",
        ("fp_conv3_init/k holds NaN",),
    ),
    "infinity": (
        dict(narrow("lp"), **{"lp_logits_init/W": np.full((8, 10), np.inf, np.float32)}),
        "lp",
        ("lp_logits_init/W holds NaN or infinity",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_weights_than_the_networks_are_refused_with_all_differences(tmp_path, session, case):
    arrays, kind, says = REFUSED[case]
    checkpoints.save(str(tmp_path), arrays)
    with pytest.raises(CheckpointError) as error:
        load_member(NETWORK, PRECISION[kind], str(tmp_path), session, nb_filters=WIDTH)
    assert_refused(error, str(tmp_path), *says)


@pytest.mark.parametrize("kind", ["fp", "lp"])
def test_another_width_is_not_called_another_family(tmp_path, session, kind):
    checkpoints.save(str(tmp_path), narrow(kind, width=8))
    with pytest.raises(CheckpointError) as error:
        load_member(NETWORK, PRECISION[kind], str(tmp_path), session, nb_filters=WIDTH)
    assert "one's names" not in str(error.value)


def test_a_checkpoint_replaces_an_older_one(saved):
    checkpoints.save(saved, narrow("fp", seed=1))
    assert_same_bits(checkpoints.read(saved), narrow("fp", seed=1))
    assert len(os.listdir(saved)) == 4


def fail_to_write(monkeypatch, failing):
    """Let the disk be full where `save` writes files, or where it moves them into place."""

    def no_space(*arguments, **keywords):
        if failing == "saver":
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")
        raise OSError(28, "No space left on device")

    owner, name = {"saver": (tf.train.Saver, "save"), "replace": (os, "replace")}[failing]
    monkeypatch.setattr(owner, name, no_space)


@pytest.mark.parametrize("failing", ["saver", "replace"])
def test_a_failed_save_leaves_folders_as_they_were(saved, tmp_path, monkeypatch, failing):
    before = sorted(os.listdir(saved))
    new = str(tmp_path / "new")
    with monkeypatch.context() as patch:
        fail_to_write(patch, failing)
        for path in (saved, new):
            with pytest.raises(Exception, match="No space left"):
                checkpoints.save(path, narrow("fp", seed=1))
    assert sorted(os.listdir(saved)) == before
    assert_same_bits(checkpoints.read(saved), narrow("fp"))
    assert not os.path.exists(new) or os.listdir(new) == []


@pytest.mark.parametrize("failing", ["saver", "replace"])
def test_a_failed_save_names_the_folder(saved, monkeypatch, failing):
    fail_to_write(monkeypatch, failing)
    with pytest.raises(CheckpointError) as error:
        checkpoints.save(saved, narrow("fp", seed=1))
    assert_refused(error, saved)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    path = str(tmp_path / "file" / "member")
    with pytest.raises(CheckpointError) as error:
        checkpoints.save(path, narrow("fp"))
    assert_refused(error, path, "Not a directory")
    assert os.listdir(str(tmp_path)) == ["file"]


def test_the_digest_is_a_function_of_names_shapes_and_values():
    arrays = narrow("fp")
    digest = checkpoints.digest(arrays)
    assert digest == checkpoints.digest(dict(reversed(list(arrays.items()))))
    assert digest == checkpoints.digest({n: np.asfortranarray(a) for n, a in arrays.items()})
    last = NAMES["MNISTconv"]["fp"][-1]
    for other in (
        narrow("fp", seed=1),
        dict(arrays, **{last: np.nextafter(arrays[last], np.float32(9))}),
        dict(arrays, **{last: arrays[last].reshape(10, 8)}),
        {name.replace("fp", "xx"): array for name, array in arrays.items()},
    ):
        assert checkpoints.digest(other) != digest
