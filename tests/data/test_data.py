"""MNIST from every source in one shape, and a named error for every file that is not MNIST."""

import gzip
import hashlib
import io
import logging
import os

import numpy as np
import pytest

from empir.data import Dataset, check, mnist
from empir.errors import DataError, EmpirError
from empir.runtime import keras
from tests.support import MNIST, needs_mnist

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def sample_bytes(name):
    """A file of the embedded sample, uncompressed."""
    with gzip.open(os.path.join(mnist.SAMPLES, name + ".gz")) as file:
        return file.read()


def write(folder, name, data):
    with open(os.path.join(str(folder), name), "wb") as file:
        file.write(data)


@pytest.fixture
def small_mnist(monkeypatch):
    """The sample's 1,000 images as if they were the official test set, to make files of it."""
    monkeypatch.setitem(mnist.SIZES, "test", 1000)
    for name in (IMAGES, LABELS):
        monkeypatch.setitem(mnist.SHA256, name, hashlib.sha256(sample_bytes(name)).hexdigest())


@pytest.fixture
def folder(small_mnist, tmp_path):
    """A --data_dir with the small test set as uncompressed idx files."""
    for name in (IMAGES, LABELS):
        write(tmp_path, name, sample_bytes(name))
    return str(tmp_path)


@pytest.fixture(scope="module")
def real():
    """Both splits of the real MNIST."""
    return {split: mnist.load(split, MNIST) for split in ("train", "test")}


def assert_refused(data_dir, *texts):
    """Loading raises a `DataError` of one line that holds the texts."""
    with pytest.raises(DataError) as error:
        mnist.load("test", data_dir)
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)


def test_the_sample_is_a_thousand_test_images_and_says_so():
    sample = mnist.load("test", sample=True)
    assert sample.images.shape == (1000, 28, 28, 1)
    assert sample.images.dtype == np.float32 and sample.labels.dtype == np.int64
    assert sample.images.min() == 0.0 and sample.images.max() == 1.0
    assert set(sample.labels) == set(range(10))
    assert sample.is_sample and sample.source == "sample"


@pytest.mark.slow
@needs_mnist
def test_the_sample_is_the_start_of_the_test_set(real):
    sample = mnist.load("test", sample=True)
    np.testing.assert_array_equal(sample.images, real["test"].images[:1000])
    np.testing.assert_array_equal(sample.labels, real["test"].labels[:1000])


def test_there_is_no_sample_of_the_training_set():
    with pytest.raises(EmpirError):
        mnist.load("train", sample=True)


def test_an_unknown_split_is_named(monkeypatch):
    monkeypatch.setattr(keras.utils, "get_file", fail_to_download)
    with pytest.raises(EmpirError, match="validation"):
        mnist.load("validation")


@needs_mnist
@pytest.mark.parametrize("split, count", [("train", 60000), ("test", 10000)])
def test_the_official_files_load(real, split, count):
    data = real[split]
    assert data.images.shape == (count, 28, 28, 1) and data.labels.shape == (count,)
    assert data.images.dtype == np.float32 and data.labels.dtype == np.int64
    assert data.images.min() == 0.0 and data.images.max() == 1.0
    assert set(data.labels) == set(range(10))
    assert data.clip_range == (0.0, 1.0) and data.num_classes == 10
    assert (data.name, data.split, data.source) == ("mnist", split, MNIST)
    assert not data.is_sample


@pytest.mark.slow
@needs_mnist
def test_mnist_npz_loads_to_the_same_data(real, tmp_path):
    arrays = {}
    for split, data in real.items():
        arrays["x_" + split] = np.rint(data.images[..., 0] * 255).astype(np.uint8)
        arrays["y_" + split] = data.labels.astype(np.uint8)
    np.savez(str(tmp_path / "mnist.npz"), **arrays)
    for split, data in real.items():
        assert mnist.load(split, str(tmp_path)).digest() == data.digest()


@pytest.mark.parametrize("compressed", [(), (IMAGES,), (IMAGES, LABELS)], ids=len)
def test_idx_files_load_gzipped_or_not(folder, compressed):
    for name in compressed:
        write(folder, name + ".gz", gzip.compress(sample_bytes(name)))
        os.remove(os.path.join(folder, name))
    assert mnist.load("test", folder).digest() == mnist.load("test", sample=True).digest()


#: Damage to the uncompressed images: what it is -> (bytes -> bytes, what the error says).
DAMAGED_IDX = {
    "wrong checksum": (lambda data: data[:5000] + b"\x7f" + data[5001:], "sha256"),
    "truncated": (
        lambda data: data[:-1],
        "784015 bytes uncompressed, expected 784016",
    ),
    "empty": (lambda data: b"", "0 bytes"),
    "longer": (
        lambda data: data + b"\0",
        "holds more bytes uncompressed, expected 784016",
    ),
    "wrong dims": (
        lambda data: data[:11] + b"\x0e\0\0\0\x38" + data[16:],
        "holds 1000x14x56, expected 1000x28x28",
    ),
    "wrong type": (
        lambda data: b"\0\0\x0d\3" + data[4:],
        "starts with the bytes 00000d03, expected 00000803",
    ),
    "labels": (lambda data: sample_bytes(LABELS), "00000801, expected 00000803"),
}


@pytest.mark.parametrize("damage", DAMAGED_IDX)
def test_a_damaged_idx_file_is_named(folder, damage):
    change, says = DAMAGED_IDX[damage]
    write(folder, IMAGES, change(sample_bytes(IMAGES)))
    assert_refused(folder, os.path.join(folder, IMAGES), says)


#: Damage to a compressed file, idx.gz or npz: what it is -> (bytes -> bytes).
DAMAGED_ARCHIVE = {
    "truncated": lambda data: data[: len(data) // 2],
    "last byte missing": lambda data: data[:-1],
    "bytes overwritten": lambda data: data[:20000] + b"\xff" * 64 + data[20064:],
    "a web page": lambda data: b"<html>404 Not Found</html>",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGED_ARCHIVE)
def test_a_damaged_gzip_file_is_named(folder, damage):
    os.remove(os.path.join(folder, IMAGES))
    write(folder, IMAGES + ".gz", DAMAGED_ARCHIVE[damage](gzip.compress(sample_bytes(IMAGES))))
    assert_refused(folder, os.path.join(folder, IMAGES + ".gz"))


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_a_missing_file_is_named(folder, name):
    os.remove(os.path.join(folder, name))
    assert_refused(folder, folder, name)


@pytest.mark.parametrize("name", ["missing", IMAGES])
def test_a_data_dir_that_is_no_folder_is_named(folder, name):
    path = os.path.join(folder, name)
    assert_refused(path, path)


def npz_bytes(**changed):
    """An mnist.npz of the small test set with some arrays changed, or None for not there."""
    images = np.frombuffer(sample_bytes(IMAGES), np.uint8, offset=16).reshape(1000, 28, 28)
    labels = np.frombuffer(sample_bytes(LABELS), np.uint8, offset=8)
    arrays = dict(dict(x_test=images, y_test=labels), **changed)
    file = io.BytesIO()
    np.savez_compressed(file, **{name: a for name, a in arrays.items() if a is not None})
    return file.getvalue()


def test_an_npz_of_the_small_test_set_loads(small_mnist, tmp_path):
    write(tmp_path, "mnist.npz", npz_bytes())
    assert mnist.load("test", str(tmp_path)).digest() == mnist.load("test", sample=True).digest()


@pytest.mark.parametrize(
    "changed, says",
    [
        (dict(y_test=None), "y_test"),
        (dict(x_test=np.zeros((1000, 28, 28), np.uint8)), "sha256"),
        (dict(x_test=np.zeros((1000, 28, 28), np.float32)), "float32"),
        (dict(x_test=np.zeros((999, 28, 28), np.uint8)), "(999, 28, 28)"),
        (dict(y_test=np.zeros((1000, 1), np.uint8)), "(1000, 1)"),
        (dict(y_test=np.array([None] * 1000)), "mnist.npz"),
    ],
    ids=["no key", "values", "dtype", "count", "dims", "pickle"],
)
def test_an_npz_of_other_arrays_is_named(small_mnist, tmp_path, changed, says):
    write(tmp_path, "mnist.npz", npz_bytes(**changed))
    assert_refused(str(tmp_path), str(tmp_path / "mnist.npz"), says)


@pytest.mark.parametrize("damage", DAMAGED_ARCHIVE)
def test_a_damaged_npz_is_named(small_mnist, tmp_path, damage):
    write(tmp_path, "mnist.npz", DAMAGED_ARCHIVE[damage](npz_bytes()))
    assert_refused(str(tmp_path), str(tmp_path / "mnist.npz"))


def test_an_npy_file_called_npz_is_named(small_mnist, tmp_path):
    file = io.BytesIO()
    np.save(file, np.zeros((1000, 28, 28), np.uint8))
    write(tmp_path, "mnist.npz", file.getvalue())
    assert_refused(str(tmp_path), str(tmp_path / "mnist.npz"))


def fail_to_download(*arguments, **keywords):
    """In place of keras.utils.get_file where there is no network: prints, then raises."""
    print("Downloading data from somewhere")
    raise Exception("URL fetch failure\nNone -- Name or service not known")


def test_without_a_download_the_test_split_is_the_sample_with_a_warning(
    monkeypatch, caplog, capsys
):
    monkeypatch.setattr(keras.utils, "get_file", fail_to_download)
    with caplog.at_level(logging.WARNING, "empir"):
        data = mnist.load("test")
    assert data.is_sample and len(data.labels) == 1000
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "SAMPLE" in record.getMessage() and "--data_dir" in record.getMessage()
    assert capsys.readouterr().out == ""  # standard output is for results


def test_without_a_download_the_training_split_is_an_error(monkeypatch):
    monkeypatch.setattr(keras.utils, "get_file", fail_to_download)
    with pytest.raises(DataError, match="URL fetch failure.*--data_dir") as error:
        mnist.load("train")
    assert "\n" not in str(error.value)


def test_the_download_is_read_as_mnist_npz(small_mnist, monkeypatch, tmp_path):
    write(tmp_path, "cached.npz", npz_bytes())
    path = str(tmp_path / "cached.npz")
    monkeypatch.setattr(keras.utils, "get_file", lambda *arguments, **keywords: path)
    data = mnist.load("test")
    assert (data.source, data.is_sample) == (path, False)
    assert data.digest() == mnist.load("test", sample=True).digest()


def test_a_data_dir_is_never_replaced_by_a_download(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.utils, "get_file", lambda *arguments, **keywords: pytest.fail())
    assert_refused(str(tmp_path), str(tmp_path))


def dataset(**changed):
    """A valid dataset of four 2x2 images with some fields changed."""
    fields = dict(
        name="made-up",
        split="test",
        images=np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 2, 2, 1),
        labels=np.arange(4),
        num_classes=4,
        clip_range=(0.0, 1.0),
        source="nowhere",
    )
    return Dataset(**dict(fields, **changed))


def images_with(value):
    images = dataset().images.copy()
    images[2, 0, 1, 0] = value
    return images


def test_a_valid_dataset_passes_the_check():
    data = dataset()
    assert check(data) is data


@pytest.mark.parametrize(
    "changed, says",
    [
        (dict(images=images_with(np.nan)), "image 2 holds NaN"),
        (dict(images=images_with(np.inf)), "image 2"),
        (dict(images=images_with(1.001)), r"outside \[0, 1\]"),
        (dict(images=images_with(-0.001)), r"outside \[0, 1\]"),
        (dict(images=dataset().images.astype(np.float64)), "float32.*float64"),
        (dict(images=dataset().images[..., 0]), r"\(4, 2, 2\)"),
        (dict(labels=np.array([0, 1, 2, 4])), "label 4 of example 3 is not in 0..3"),
        (dict(labels=np.array([0, -1, 2, 3])), "label -1 of example 1"),
        (dict(labels=np.arange(3)), "4 images but 3 labels"),
    ],
)
def test_an_invalid_dataset_is_an_error_that_says_where(changed, says):
    with pytest.raises(DataError, match=says) as error:
        check(dataset(**changed))
    assert "made-up test images of nowhere" in str(error.value)


@pytest.mark.parametrize("n", [1, 3, 4])
def test_the_first_n_examples_are_kept_in_order(n):
    first = dataset().first(n)
    np.testing.assert_array_equal(first.images, dataset().images[:n])
    np.testing.assert_array_equal(first.labels, dataset().labels[:n])
    assert first.source == "nowhere"


@pytest.mark.parametrize("n", [0, -1, 5])
def test_a_number_of_examples_that_there_are_not_is_an_error(n):
    with pytest.raises(EmpirError, match=r"nb_samples=%d: nowhere has 1\.\.4 test images" % n):
        dataset().first(n)


def test_the_digest_is_a_function_of_images_and_labels():
    digest = dataset().digest()
    strided = np.asfortranarray(dataset().images)
    assert dataset(images=strided, source="elsewhere", name="other").digest() == digest
    assert dataset(images=images_with(0.5)).digest() != digest
    assert dataset(labels=np.array([0, 1, 3, 2])).digest() != digest
    assert dataset().first(3).digest() != digest


# Subsets


def labelled(counts, random):
    """A dataset with so many examples of each class, mixed; every image holds its own number."""
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.zeros((len(labels), 2, 2, 1), np.float32)
    images[:] = np.linspace(0, 1, len(labels))[:, None, None, None]
    return dataset(images=images, labels=labels)


@pytest.mark.parametrize(
    "counts, n, shares",
    [
        ((10, 10, 10, 10), 20, [5, 5, 5, 5]),
        ((40, 20, 20, 20), 10, [4, 2, 2, 2]),
        ((10, 10, 10, 10), 6, [2, 2, 1, 1]),  # equal remainders: the lower classes have more
        ((5, 30, 3, 2), 8, [1, 6, 1, 0]),  # 1, 6, 0.6, 0.4
        ((10, 10, 10, 10), 1, [1, 0, 0, 0]),
        ((7, 0, 3, 5), 15, [7, 0, 3, 5]),
    ],
)
def test_a_subset_has_each_classs_share(counts, n, shares, random):
    data = labelled(counts, random)
    subset = data.subset(n, seed=3)
    assert np.bincount(subset.labels, minlength=4).tolist() == shares
    places = [
        int(np.flatnonzero((data.images == image).all(axis=(1, 2, 3)))) for image in subset.images
    ]
    assert places == sorted(set(places)) and (data.labels[places] == subset.labels).all()


def test_a_subset_is_a_function_of_its_seed_and_says_so(random):
    data = labelled((20, 20, 20, 20), random)
    first, again, other = (data.subset(12, seed).describe() for seed in (0, 0, 1))
    assert first == again and first["sha256"] != other["sha256"]
    assert (first["subset"], first["subset_seed"], other["subset_seed"]) == ("stratified", 0, 1)
    assert first["indices_sha256"] != other["indices_sha256"]
    # Most images are not among the first ones, and a larger subset is another one.
    assert (data.subset(12).images != data.images[:12]).any()
    assert data.subset(12).digest() != data.subset(13).digest()


def test_all_images_and_the_first_ones_say_nothing_of_a_subset(random):
    data = labelled((20, 20, 20, 20), random)
    assert data.subset(80).describe() == data.describe() and "subset" not in data.describe()
    assert "subset" not in data.first(12).describe()
    assert data.subset(12).first(5).describe()["first"] == 5


def test_what_a_record_describes_is_found_again(random):
    data = labelled((20, 20, 20, 20), random)
    for part in (data.first(7), data.subset(7), data.subset(7, seed=9), data):
        found = data.described(part.describe(), len(part.labels))
        assert found.digest() == part.digest() and found.describe() == part.describe()


@pytest.mark.parametrize("n", [0, 81])
def test_a_subset_of_more_images_than_there_are_is_an_error(n, random):
    with pytest.raises(EmpirError, match=r"nb_samples=%d: nowhere has 1\.\.80" % n):
        labelled((20, 20, 20, 20), random).subset(n)
