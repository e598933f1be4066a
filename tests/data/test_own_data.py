"""Data of one's own: what an .npz file may hold, files of known formats, and what records say."""

import gzip
import hashlib
import os

import numpy as np
import pytest
from absl import flags

from empir.commands import flags as empir_flags
from empir.commands import shared_flags
from empir.data import OWN, cifar10, mnist, own
from empir.errors import DataError, EmpirError
from empir.experiments import EXPERIMENTS
from tests.support.batches import small_records, write_folder
from tests.support.scripts import remove_flags

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SHAPE = (28, 28, 1)


def save(folder, **arrays):
    """The path of an .npz file of arrays."""
    path = os.path.join(str(folder), "mine.npz")
    np.savez_compressed(path, **arrays)
    return path


def images(count=5, shape=SHAPE, dtype=np.float32):
    random = np.random.RandomState(count)
    found = random.randint(0, 256, (count,) + shape)
    return (found / 255).astype(dtype) if dtype != np.uint8 else found.astype(dtype)


def labels(count=5):
    return np.arange(count) % 10


def file_sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


# .npz files


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("names", [("images", "labels"), ("x_test", "y_test")])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("label_type", [np.int64, np.uint8, np.int32, ">i2", np.uint64])
def test_own_images_load_as_they_are_or_scaled(tmp_path, names, dtype, label_type, compressed):
    given, path = images(dtype=dtype), str(tmp_path / "mine.npz")
    arrays = dict(zip(names, (given, labels().astype(label_type))))
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    data = own.load("test", path, shape=SHAPE, num_classes=10)
    expected = given if dtype == np.float32 else (given / np.float32(255)).astype(np.float32)
    np.testing.assert_array_equal(data.images, expected)
    np.testing.assert_array_equal(data.labels, labels())
    assert data.images.dtype == np.float32 and data.labels.dtype == np.int64
    assert (data.name, data.split, data.num_classes) == ("own data", "test", 10)
    assert (data.clip_range, data.source, data.is_sample) == ((0.0, 1.0), path, False)
    assert data.files == {"mine.npz": file_sha256(path)}


def test_images_without_an_axis_of_channels_have_one(tmp_path):
    path = save(tmp_path, images=images()[..., 0], labels=labels())
    np.testing.assert_array_equal(own.load("test", path, shape=SHAPE).images, images())


def test_images_in_fortrans_order_are_the_same(tmp_path):
    path = save(tmp_path, images=np.asfortranarray(images()), labels=labels())
    np.testing.assert_array_equal(own.load("test", path).images, images())


def test_a_file_may_have_both_splits(tmp_path):
    arrays = dict(x_train=images(7), y_train=labels(7), x_test=images(3), y_test=labels(3))
    path = save(tmp_path, **arrays)
    for split, count in (("train", 7), ("test", 3)):
        data = own.load(split, path)
        np.testing.assert_array_equal(data.images, images(count))
        assert (data.split, len(data.labels)) == (split, count)


def test_the_file_may_say_range_and_classes(tmp_path):
    path = save(
        tmp_path,
        images=images(shape=(8, 9, 3)) * np.float32(4) - np.float32(2),
        labels=labels(),
        num_classes=20,
        clip_range=[-2, 2],
    )
    data = own.load("test", path)
    assert (data.num_classes, data.clip_range) == (20, (-2.0, 2.0))
    assert data.images.shape == (5, 8, 9, 3)


def test_without_a_network_there_are_as_many_classes_as_labels(tmp_path):
    path = save(tmp_path, images=images(3), labels=[4, 0, 2])
    assert own.load("test", path).num_classes == 5


@pytest.mark.parametrize(
    "changed, says",
    [
        (dict(images=images().astype(float)), "images is float64 (5, 28, 28, 1), expected float32"),
        (dict(images=images(dtype=np.uint8).astype(int)), "images is int64"),
        (dict(images=images() * 255), "image 0 holds NaN or values outside [0, 1]"),
        (dict(images=images() - np.nan), "image 0 holds NaN"),
        (dict(images=images(shape=(28, 28, 3))), "28x28x3, but the network takes 28x28x1"),
        (dict(images=images(shape=(784,))), "(5, 784), expected float32 or uint8 [n, height"),
        (dict(images=images()[:0], labels=[]), "(0, 28, 28, 1), expected"),
        (dict(images=np.array([None] * 5)), "no array of numbers"),
        (dict(images=np.array(["a"] * 5)), "no array of numbers"),
        (dict(images=np.zeros(5, "f4,f4")), "no array of numbers"),
        (
            dict(labels=labels().astype(np.float32)),
            "labels is float32 (5,), expected integers (5,)",
        ),
        (dict(labels=labels()[:, np.newaxis]), "labels is int64 (5, 1), expected integers (5,)"),
        (dict(labels=labels(4)), "labels is int64 (4,), expected integers (5,)"),
        (dict(labels=[0, 1, 2, 3, 10]), "label 10 of example 4 is not in 0..9"),
        (dict(labels=[0, -1, 2, 3, 4]), "label -1 of example 1"),
        (dict(labels=np.full(5, 2**64 - 1, np.uint64)), "of example 0 is not in 0..9"),
        (dict(num_classes=5), "num_classes is 5, but the network has 10"),
        (dict(num_classes=1.5), "num_classes is 1.5, expected an integer"),
        (dict(num_classes=[1, 2, 3]), "num_classes is of shape (3,)"),
        (dict(clip_range=[-1.0, 1.0]), "[-1, 1], but the network takes images in [0, 1]"),
        (dict(clip_range=[1.0, 0.0]), "clip_range is [1.0, 0.0], expected the lowest and"),
        (dict(clip_range=[0.0, np.nan]), "clip_range is [0.0, nan]"),
        (dict(clip_range=1.0), "clip_range is 1.0"),
        (dict(label=labels()), "has an array label; known are"),
        (dict(labels=None), "has no array labels; it has images"),
        (
            dict(images=None, labels=None),
            "has no test images: name them images and labels or x_test",
        ),
        (dict(x_test=images()), "has both images and x_test"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changed, says):
    arrays = dict(dict(images=images(), labels=labels()), **changed)
    path = save(tmp_path, **{name: a for name, a in arrays.items() if a is not None})
    with pytest.raises(DataError) as error:
        own.load("test", path, shape=SHAPE, num_classes=10)
    assert path in str(error.value) and says in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_are_not_scaled_to_another_range(tmp_path):
    path = save(tmp_path, images=images(dtype=np.uint8), labels=labels())
    with pytest.raises(DataError, match=r"is uint8, .*\[-2.2, 2.7\]: give float32"):
        own.load("test", path, clip_range=(-2.2, 2.7))


def test_test_images_alone_are_not_trained_on(tmp_path):
    path = save(tmp_path, images=images(), labels=labels())
    with pytest.raises(DataError, match="has no train images: name them x_train and y_train"):
        own.load("train", path)


# Files of MNIST's and CIFAR-10's format


@pytest.fixture
def other_mnist(tmp_path):
    """A folder of idx files that are not MNIST, of seven images."""
    for name, array in ((IMAGES, images(7, SHAPE[:2], np.uint8)), (LABELS, labels(7))):
        start = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / name).write_bytes(start + array.astype(np.uint8).tobytes())
    return tmp_path


def assert_seven(data, names):
    np.testing.assert_allclose(data.images, images(7), atol=1e-7)  # one division rounds otherwise
    np.testing.assert_array_equal(data.labels, labels(7))
    assert data.name == OWN and sorted(data.files) == names


def test_idx_files_of_other_images_load_if_they_are_asked_for(other_mnist):
    data = mnist.load("test", str(other_mnist), any_data=True)
    assert_seven(data, [IMAGES, LABELS])
    assert data.files[IMAGES] == file_sha256(str(other_mnist / IMAGES))
    (other_mnist / (IMAGES + ".gz")).write_bytes(gzip.compress((other_mnist / IMAGES).read_bytes()))
    (other_mnist / IMAGES).unlink()
    packed = mnist.load("test", str(other_mnist), any_data=True)
    assert (packed.digest(), packed.files) == (data.digest(), data.files)


def test_an_mnist_npz_of_other_images_loads_if_it_is_asked_for(tmp_path):
    path = str(tmp_path / "mnist.npz")
    np.savez(path, x_test=images(7, SHAPE[:2], np.uint8), y_test=labels(7).astype(np.uint8))
    assert_seven(mnist.load("test", str(tmp_path), any_data=True), ["mnist.npz"])


def test_files_of_a_known_dataset_are_that_dataset(monkeypatch, other_mnist):
    monkeypatch.setitem(mnist.SIZES, "test", 7)
    for name in (IMAGES, LABELS):
        monkeypatch.setitem(mnist.SHA256, name, file_sha256(str(other_mnist / name)))
    data = mnist.load("test", str(other_mnist), any_data=True)
    assert (data.name, data.files) == ("mnist", {})
    assert data.describe() == dict(source="whole split", split="test", sha256=data.digest())


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_idx_files_of_other_images_are_refused_with_what_to_do(monkeypatch, other_mnist, name):
    with pytest.raises(DataError, match="expected 10000x28x28: .*--any_data .*--data=FILE.npz"):
        mnist.load("test", str(other_mnist))
    monkeypatch.setitem(mnist.SIZES, "test", 7)
    for other in {IMAGES, LABELS} - {name}:
        monkeypatch.setitem(mnist.SHA256, other, file_sha256(str(other_mnist / other)))
    with pytest.raises(DataError, match="%s is not .*--any_data .*--data=FILE.npz" % name):
        mnist.load("test", str(other_mnist))


def test_idx_files_that_do_not_belong_together_are_refused(other_mnist):
    data = (other_mnist / LABELS).read_bytes()
    (other_mnist / LABELS).write_bytes(data[:7] + b"\6" + data[8:-1])
    with pytest.raises(DataError, match="7 images but 6 labels"):
        mnist.load("test", str(other_mnist), any_data=True)


def test_batches_of_other_images_load_if_they_are_asked_for(tmp_path):
    records = small_records("test_batch")[:3]
    folder = write_folder(tmp_path, {"test_batch.bin": records.tobytes()})
    with pytest.raises(DataError, match="holds 3 images, expected 10000: .*--any_data"):
        cifar10.load("test", folder)
    data = cifar10.load("test", folder, any_data=True)
    assert (data.name, len(data.labels)) == (OWN, 3)
    assert data.files == {"test_batch.bin": hashlib.sha256(records.tobytes()).hexdigest()}


def test_batches_of_half_an_image_are_refused(tmp_path):
    folder = write_folder(tmp_path, {"test_batch.bin": b"\0" * 5000})
    with pytest.raises(DataError, match="5000 bytes, .*multiple of 3073"):
        cifar10.load("test", folder, any_data=True)


# Flags and records


@pytest.fixture
def parse():
    """Parse a command line of the MNIST script into absl's flags, which are removed afterwards."""

    def parse_line(line):
        empir_flags.define(EXPERIMENTS["mnist"])
        flags.FLAGS(["script"] + line.split())

    yield parse_line
    remove_flags()


def load(any_shape=False):
    return shared_flags.load_data(EXPERIMENTS["mnist"], "test", any_shape=any_shape)


def test_flags_name_own_data(parse, tmp_path):
    path = save(tmp_path, images=images(), labels=labels())
    parse("--data=" + path)
    assert (load().source, load().name, load().num_classes) == (path, OWN, 10)


def test_networks_of_this_project_refuse_other_shapes_and_keras_models_do_not(parse, tmp_path):
    parse("--data=" + save(tmp_path, images=images(shape=(5, 6, 2)), labels=labels()))
    with pytest.raises(DataError, match="images of 5x6x2, but the network takes 28x28x1"):
        load()
    assert load(any_shape=True).images.shape == (5, 5, 6, 2)


def test_flags_accept_any_files_of_the_format(parse, other_mnist):
    parse("--any_data --data_dir=%s" % other_mnist)
    assert_seven(load(), [IMAGES, LABELS])


@pytest.mark.parametrize(
    "line, says",
    [
        ("--data=x.npz --data_dir=y", "--data and --data_dir exclude each other"),
        ("--data=x.npz --any_data", "--data and --any_data exclude each other"),
        ("--data=", "--data is empty: name an .npz file"),
        ("--any_data", "--any_data needs --data_dir"),
        ("--data=missing.npz", "missing.npz cannot be read"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(parse, line, says):
    parse(line)
    with pytest.raises(EmpirError, match=says):
        load()


def test_a_record_names_own_data_by_their_files(tmp_path):
    path = save(tmp_path, images=images(), labels=labels())
    data = own.load("test", path).first(2)
    assert data.describe() == {
        "source": "own data",
        "split": "test",
        "sha256": data.digest(),
        "files": {"mine.npz": file_sha256(path)},
    }
