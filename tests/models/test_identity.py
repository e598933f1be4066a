"""What a checkpoint is: its bits, network, width and weights, and whatever contradicts them."""

import os

import numpy as np
import pytest

from empir.commands import checkpoints as command
from empir.data import mnist
from empir.errors import CheckpointError, EmpirError
from empir.evaluation import subjects
from empir.models import checkpoints
from empir.models.checkpoints import MemberSpec
from empir.models.member import load_member, member_from_arrays
from empir.models.model import describe_members
from empir.nn import architecture
from empir.nn.precision import FULL, Precision, parse_layers
from empir.runtime import tf
from tests.support.released import LAYERS, MIXED, NAMES, SHAPES, narrow, save_trained

MNIST, CIFAR = architecture("MNISTconv"), architecture("CIFARconv")
BITS = Precision(2, 4)
DATA = "model.data-00000-of-00001"


def assert_one_line(error, *texts):
    """The message of a raised error is one line that holds the texts."""
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)


@pytest.fixture
def trained(tmp_path):
    """Folder of a narrow w2a4 network with its training.json."""
    return save_trained(str(tmp_path / "member"), narrow("lp"), ["w2a4"] * 3)


#: Network and bits that are asked for, changes of training.json, what the error says.
CONTRADICTIONS = {
    "other bits": ("w1a2", {}, ["is asked for as w1a2", "training.json says w2a4"]),
    "bits per layer": ("w2a4/w2a4/w2a2", {}, ["as w2a4/w2a4/w2a2", "says w2a4"]),
    "one number for bits per layer": (
        "w2a4",
        {"precisions": LAYERS},
        ["as w2a4,", "says " + MIXED],
    ),
    "another network": ("w2a4", {"network": "CIFARconv"}, ["as a MNISTconv", "says CIFARconv"]),
    "other weights": ("w2a4", {"sha256": "0" * 64}, ["not of the weights beside it", "remove it"]),
    "no bits": ("w2a4", {"precisions": None}, ["no valid precisions", "remove it"]),
    "a number as network": ("w2a4", {"network": 3}, ["no valid network"]),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_training_json_contradicts_is_refused(tmp_path, session, case):
    asked, changes, says = CONTRADICTIONS[case]
    record = dict({"precisions": ["w2a4"] * 3}, **changes)
    folder = save_trained(str(tmp_path / "member"), narrow("lp"), **record)
    with pytest.raises(CheckpointError) as error:
        load_member(MNIST, parse_layers(asked), folder, session)
    assert_one_line(error, folder, *says)
    assert tf.global_variables() == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b"[" * 100000, None], ids=lambda c: repr(c)[:9]
)
def test_a_damaged_training_json_is_named(trained, session, content):
    path = os.path.join(trained, "training.json")
    os.remove(path)
    if content is None:
        os.mkfifo(path)
    else:
        with open(path, "wb") as file:
            file.write(content)
    with pytest.raises(CheckpointError) as error:
        load_member(MNIST, BITS, trained, session)
    assert_one_line(error, path, "remove it")


@pytest.mark.slow
def test_without_training_json_bits_are_taken_as_given(trained, session):
    os.remove(os.path.join(trained, "training.json"))
    member = load_member(MNIST, Precision(1, 2), trained, session)
    assert [precision.weight_bits for precision in member.precisions] == [1, 1, 1]


def test_every_way_to_load_a_network_compares_its_bits(trained, tmp_path):
    """A suite's members and networks outside; the teacher of a distillation; first weights."""
    data = mnist.load(sample=True).first(4)
    outside = MemberSpec(FULL, save_trained(str(tmp_path / "fp"), narrow("fp"), ["w3a3"] * 3))
    member = MemberSpec(Precision(1, 2), trained)
    for source in (
        subjects.Source("MNISTconv", [member]),
        subjects.Source("MNISTconv", [MemberSpec(BITS, trained)], outside=[outside]),
    ):
        with pytest.raises(CheckpointError, match="training.json says"):
            with source.open(data):
                pass
    with pytest.raises(CheckpointError, match="asked for as fp, but .* says w3a3"):
        checkpoints.read_member(outside.path, MNIST, (FULL,) * 3)
    with pytest.raises(CheckpointError, match="asked for as a CIFARconv, but .* says MNISTconv"):
        checkpoints.read_initial(trained, CIFAR, (BITS,) * 2)


def test_a_training_may_start_from_other_bits_and_says_so(trained, caplog):
    caplog.set_level("INFO", "empir")
    checkpoints.read_initial(trained, MNIST, (BITS,) * 3)
    assert caplog.text == ""
    checkpoints.read_initial(trained, MNIST, (Precision(1, 2),) * 3)
    assert "was trained as w2a4 and is trained on as w1a2" in caplog.text


@pytest.mark.parametrize("name, kind", [(name, kind) for name in NAMES for kind in NAMES[name]])
def test_the_width_is_in_the_shapes(name, kind):
    network = architecture(name)
    for width in (2, 4, network.nb_filters):
        shapes = dict(zip(network.names(kind).values(), SHAPES[name](width)))
        assert checkpoints.width(network, shapes) == width
    assert checkpoints.width(network, {"another": (3, 3)}) is None


@pytest.mark.slow
def test_members_of_different_widths_are_told_apart_in_the_record(session, tmp_path):
    def member(width, kind="lp"):
        arrays = narrow(kind, width)
        precisions = (BITS if kind == "lp" else FULL,) * 3
        return member_from_arrays(MNIST, precisions, arrays, session, "w%d" % width, False)

    narrower, wider, usual = member(4), member(6, "fp"), member(64)
    one = describe_members([narrower, narrower], {"temperature": 2.0})
    assert one["options"] == {"temperature": 2.0, "nb_filters": 4}
    # As records of before, which are compared with when a run is resumed.
    assert one["members"] == [narrower.describe()] * 2 and "nb_filters" not in narrower.describe()
    plain = describe_members([usual], {}, outside=[usual, narrower])
    assert (plain["options"], plain["members"]) == ({}, [usual.describe()])
    assert plain["outside"] == [usual.describe(), dict(narrower.describe(), nb_filters=4)]
    mixed = describe_members([narrower, wider, usual], {"nb_filters": 4}, outside=[usual])
    assert mixed["options"] == {}
    assert [entry["nb_filters"] for entry in mixed["members"]] == [4, 6, 64]
    assert [entry["nb_filters"] for entry in mixed["outside"]] == [64]


def test_a_width_that_the_checkpoint_contradicts_is_an_error(trained, session):
    assert load_member(MNIST, BITS, trained, session, nb_filters=4).nb_filters == 4
    with pytest.raises(CheckpointError) as error:
        load_member(MNIST, BITS, trained, session, nb_filters=8)
    assert_one_line(error, trained, "its nb_filters is 4, but nb_filters=8 is asked for")


@pytest.mark.parametrize("width", [0, -1, 2.5, True, 10**7, "4"])
def test_a_width_that_is_no_count_is_an_error(width):
    with pytest.raises(EmpirError, match="nb_filters="):
        MNIST.build(nb_filters=width)


#: Type of the last layer's weights, and how the error calls it.
TYPES = {
    "int32": np.int32,
    "bool": np.bool_,
    "complex64": np.complex64,
    "float64": np.float64,
    "float16": np.float16,
    "string": np.str_,
}


@pytest.mark.parametrize("name", TYPES)
def test_weights_of_another_type_are_named(tmp_path, name):
    arrays = narrow("fp")
    arrays["fp_logits_init/W"] = arrays["fp_logits_init/W"].astype(TYPES[name])
    with tf.Graph().as_default(), tf.Session() as session:
        for key, array in arrays.items():
            tf.Variable(array, name=key)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "model"))
    with pytest.raises(CheckpointError) as error:
        checkpoints.read(str(tmp_path))
    assert_one_line(error, str(tmp_path), "fp_logits_init/W is of type " + name, "float32")


def _ruined(kind, name, value, network="MNISTconv"):
    """(network, kind, weights) of which those of one name have a value."""
    arrays = narrow(kind, network=network)
    arrays[name][...] = value
    return network, kind, arrays


NORM = "lp__batchNorm1/batch_normalization/"
#: Arguments of `_ruined`, and what the error says; None where the weights are right.
WEIGHTS = {
    "a kernel of zeros": (("lp", "lp_conv2_bin_init/k", 0), "lp_conv2_bin_init/k is zero"),
    "zeros in full precision": (("fp", "fp_logits_init/W", 0), "is zero everywhere"),
    "huge": (("fp", "fp_conv1_init/k", -1e30), "fp_conv1_init/k holds values up to 1e+30"),
    "a negative variance": (("lp", NORM + "moving_variance", -1, "AlexNet"), "negative"),
    "a bias of zeros": (("fp", "fp_logits_init/b", 0, "AlexNet"), None),
    "a large variance": (("lp", NORM + "moving_variance", 1e9, "AlexNet"), None),
    "one weight": (("lp", "lp_conv1_init/k", 0.5), None),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_no_training_ends_with_are_named(tmp_path, case):
    changed, says = WEIGHTS[case]
    name, kind, arrays = _ruined(*changed)
    if says is None:
        checkpoints.check_weights(architecture(name), kind, arrays, "folder")
        return
    with pytest.raises(CheckpointError) as error:
        checkpoints.check_weights(architecture(name), kind, arrays, "folder")
    assert_one_line(error, "folder", says, "no trained network")


def test_weights_of_zeros_are_refused_on_loading(tmp_path, session):
    _, _, arrays = _ruined("lp", "lp_conv3_bin_init/k", 0)
    checkpoints.save(str(tmp_path), arrays)
    with pytest.raises(CheckpointError, match="lp_conv3_bin_init/k is zero everywhere"):
        load_member(MNIST, BITS, str(tmp_path), session)
    assert command.main(["verify", str(tmp_path)]) == 2


def _replace(name, make):
    def damage(folder):
        path = os.path.join(folder, name)
        os.remove(path)
        make(path)

    return damage


ENDLESS = {
    "a pipe as index": _replace("model.index", os.mkfifo),
    "a pipe as data": _replace(DATA, os.mkfifo),
    "a device as index": _replace("model.index", lambda path: os.symlink("/dev/zero", path)),
    "a device as data": _replace(DATA, lambda path: os.symlink("/dev/zero", path)),
    "a folder as data": _replace(DATA, os.mkdir),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_what_would_never_end_is_not_read(trained, case):
    ENDLESS[case](trained)
    with pytest.raises(CheckpointError) as error:
        checkpoints.read(trained)
    assert_one_line(error, trained, "is not a regular file")


def test_a_pipe_that_is_called_checkpoint_is_passed_over(trained):
    _replace("checkpoint", os.mkfifo)(trained)
    assert checkpoints.digest(checkpoints.read(trained)) == checkpoints.digest(narrow("lp"))


def test_an_index_that_claims_more_than_the_data_hold_is_corrupt(tmp_path, trained):
    checkpoints.save(str(tmp_path / "wider"), narrow("lp", 40))
    os.replace(str(tmp_path / "wider" / "model.index"), os.path.join(trained, "model.index"))
    with pytest.raises(CheckpointError, match="names more than its data hold.*corrupt"):
        checkpoints.read(trained)
