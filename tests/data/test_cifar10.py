"""CIFAR-10 from every source in one shape, and a named error for every file that is not it."""

import builtins
import collections
import hashlib
import os
import pickle

import numpy as np
import pytest

from empir.data import cifar10
from empir.errors import DataError
from empir.runtime import keras
from tests.support import CIFAR10, needs_cifar10
from tests.support.batches import (
    BINARY,
    COUNT,
    PYTHON,
    TEST,
    TRAIN,
    binary_files,
    pickled,
    python_files,
    small_records,
    tarball,
    write_folder,
)


@pytest.fixture
def small(monkeypatch):
    """Eight images per file as if they were the official ones."""
    monkeypatch.setattr(cifar10, "PER_FILE", COUNT)
    digests = {n: hashlib.sha256(small_records(n).tobytes()).hexdigest() for n in TRAIN + TEST}
    monkeypatch.setattr(cifar10, "SHA256", digests)


def assert_small(data, split):
    """The data is the small CIFAR-10's split."""
    records = np.concatenate([small_records(name) for name in cifar10.FILES[split]])
    np.testing.assert_array_equal(data.labels, records[:, 0])
    assert data.images.shape == (len(records), 32, 32, 3) and data.images.dtype == np.float32
    for channel in range(3):
        plane = records[:, 1 + 1024 * channel : 1 + 1024 * (channel + 1)].reshape(-1, 32, 32)
        expected = plane.astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(data.images[..., channel], expected)
    assert data.images.flags.c_contiguous


def assert_refused(data_dir, *texts):
    """Loading raises a `DataError` of one line that holds the texts."""
    with pytest.raises(DataError) as error:
        cifar10.load("test", data_dir)
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)


#: Where a user may have it -> what is written into --data_dir.
PLACES = {
    "binary files": lambda d: write_folder(d, binary_files()),
    "Python files": lambda d: write_folder(d, python_files()),
    "binary folder": lambda d: write_folder(d / BINARY, binary_files()),
    "Python folder": lambda d: write_folder(d / PYTHON, python_files()),
    "binary tarball": lambda d: write_folder(
        d, {"cifar-10-binary.tar.gz": tarball(BINARY, binary_files())}
    ),
    "Python tarball": lambda d: write_folder(
        d, {"cifar-10-python.tar.gz": tarball(PYTHON, python_files())}
    ),
    "Keras' tarball": lambda d: write_folder(
        d, {"cifar-10-batches-py.tar.gz": tarball(PYTHON, python_files())}
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_source_gives_the_same_data(small, tmp_path, place, split):
    PLACES[place](tmp_path)
    data = cifar10.load(split, str(tmp_path))
    assert_small(data, split)
    assert (data.name, data.split, data.source) == ("cifar10", split, str(tmp_path))
    assert data.num_classes == 10 and data.clip_range == (0.0, 1.0) and not data.is_sample


@pytest.mark.parametrize("version, files", [(BINARY, binary_files), (PYTHON, python_files)])
def test_a_tarball_of_any_name_is_a_data_dir_and_nothing_is_unpacked(
    small, tmp_path, version, files
):
    write_folder(tmp_path, {"mine.tgz": tarball(version, files())})
    assert_small(cifar10.load("test", str(tmp_path / "mine.tgz")), "test")
    assert os.listdir(str(tmp_path)) == ["mine.tgz"]


@pytest.mark.slow
@needs_cifar10
@pytest.mark.parametrize("split, count", [("train", 50000), ("test", 10000)])
def test_the_official_files_load(split, count):
    data = cifar10.load(split, CIFAR10)
    assert data.images.shape == (count, 32, 32, 3) and data.labels.shape == (count,)
    assert data.images.min() == 0.0 and data.images.max() == 1.0
    np.testing.assert_array_equal(np.bincount(data.labels), [count // 10] * 10)


@pytest.mark.slow
@needs_cifar10
def test_the_official_images_load_from_python_files_too(tmp_path):
    with open(os.path.join(CIFAR10, "test_batch.bin"), "rb") as file:
        records = np.frombuffer(file.read(), np.uint8).reshape(10000, 3073)
    write_folder(tmp_path, {"test_batch": pickled(records, 4)})
    assert cifar10.load("test", str(tmp_path)).digest() == cifar10.load("test", CIFAR10).digest()


# Pickles


#: A file as Python 2 pickled it: byte strings for keys and for the array's bytes.
def python2_pickle(records):
    """Protocol 2 as Python 2 and its NumPy wrote it, by hand."""

    def text(value):
        return b"U" + bytes([len(value)]) + value  # SHORT_BINSTRING

    data = records[:, 1:].tobytes()
    rows = len(records).to_bytes(4, "little")
    return b"".join(
        [
            b"\x80\x02}(",  # protocol 2, an empty dict, a mark
            text(b"data"),
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n",
            b"K\x00\x85" + text(b"b") + b"\x87R(",  # (0,), "b": call it; state follows
            b"K\x01J" + rows + b"M\x00\x0c\x86",  # version 1, shape (rows, 3072)
            b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R",
            b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T" + len(data).to_bytes(4, "little") + data,  # C order; BINSTRING
            b"tb",
            text(b"labels"),
            b"](" + b"".join(b"K" + bytes([label]) for label in records[:, 0]) + b"e",
            b"u.",
        ]
    )


def test_the_pickles_of_python_2_load(small, tmp_path):
    write_folder(tmp_path, {"test_batch": python2_pickle(small_records("test_batch"))})
    assert_small(cifar10.load("test", str(tmp_path)), "test")


class Malicious:
    """Runs a call where it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "value, named",
    [
        (Malicious(os.system, "touch ran"), "system"),
        (Malicious(builtins.eval, "open('ran', 'w')"), "builtins.eval"),
        (Malicious(builtins.getattr, "text", "upper"), "builtins.getattr"),
        (Malicious(np.save, "ran", 1), "numpy.save"),
        (collections.OrderedDict(), "collections.OrderedDict"),
        (np.array([Malicious(os.system, "touch ran")], object), "system"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
@pytest.mark.parametrize("protocol", [3, 4])
def test_a_pickle_of_anything_but_arrays_and_containers_is_not_run(
    small, tmp_path, monkeypatch, value, named, protocol
):
    monkeypatch.chdir(tmp_path)
    data = pickled(small_records("test_batch"), protocol, more=value)
    folder = write_folder(tmp_path / "data", {"test_batch": data})
    assert_refused(folder, os.path.join(folder, "test_batch"), named, "was not run")
    assert os.listdir(str(tmp_path)) == ["data"]


@pytest.mark.parametrize(
    "value",
    [np.arange(3.0), [1, "a", None], {"a": (1, 2)}, {1, 2}, frozenset([3]), bytearray(b"a")],
    ids=repr,
)
def test_arrays_and_containers_beside_the_images_are_admitted(small, tmp_path, value):
    write_folder(tmp_path, {"test_batch": pickled(small_records("test_batch"), 4, more=value)})
    assert_small(cifar10.load("test", str(tmp_path)), "test")


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"data": np.zeros((COUNT, 3072), np.float32)}, "float32"),
        ({"data": np.zeros((COUNT, 3071), np.uint8)}, "(8, 3071)"),
        ({"data": np.zeros((COUNT, 3072), np.uint8)}, "sha256"),
        ({"labels": [0] * COUNT}, "sha256"),
        ({"labels": [256 + int(n) for n in small_records("test_batch")[:, 0]]}, "labels"),
        ({"labels": [0] * (COUNT - 1)}, "(7,)"),
        ({"labels": ["a"] * COUNT}, "<U1"),
        ({"labels": None}, "object"),
    ],
)
def test_a_pickle_of_other_data_is_named(small, tmp_path, changes, says):
    files = {"test_batch": pickled(small_records("test_batch"), 4, **changes)}
    assert_refused(write_folder(tmp_path, files), str(tmp_path / "test_batch"), says)


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", pickle.dumps([1]), pickle.dumps({})])
def test_a_damaged_pickle_is_named(small, tmp_path, data):
    assert_refused(write_folder(tmp_path, {"test_batch": data}), str(tmp_path / "test_batch"))


def test_a_truncated_pickle_is_named(small, tmp_path):
    data = python_files()["test_batch"]
    assert_refused(write_folder(tmp_path, {"test_batch": data[: len(data) // 2]}), "test_batch")


def test_a_pickle_is_official_by_its_own_checksum_too(small, tmp_path, monkeypatch):
    other = small_records("test_batch")[::-1]
    data = pickled(other, 4)
    monkeypatch.setitem(cifar10.MD5, "test_batch", hashlib.md5(data).hexdigest())
    write_folder(tmp_path, {"test_batch": data})
    np.testing.assert_array_equal(cifar10.load("test", str(tmp_path)).labels, other[:, 0])


# Binary files and tarballs


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda data: data[:-1], "%d bytes" % (COUNT * 3073 - 1)),
        (lambda data: data + b"\0", "%d bytes" % (COUNT * 3073 + 1)),
        (lambda data: b"", "0 bytes"),
        (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], "sha256"),
    ],
    ids=["truncated", "longer", "empty", "one bit"],
)
def test_a_damaged_binary_file_is_named(small, tmp_path, change, says):
    files = {name: change(data) for name, data in binary_files(TEST).items()}
    assert_refused(write_folder(tmp_path, files), str(tmp_path / "test_batch.bin"), says)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:200] + b"\xff" * 64 + data[264:],
        lambda data: b"<html>404 Not Found</html>",
        lambda data: b"",
    ],
    ids=["truncated", "overwritten", "a web page", "empty"],
)
def test_a_damaged_tarball_is_named(small, tmp_path, change):
    data = change(tarball(BINARY, binary_files()))
    folder = write_folder(tmp_path, {"cifar-10-binary.tar.gz": data})
    assert_refused(folder, str(tmp_path / "cifar-10-binary.tar.gz"), "fetch it again")


def test_a_tarball_without_the_split_is_named(small, tmp_path):
    data = tarball(BINARY, binary_files(TRAIN))
    folder = write_folder(tmp_path, {"cifar-10-binary.tar.gz": data})
    assert_refused(folder, "cifar-10-binary.tar.gz", "test_batch")


def test_a_missing_training_file_is_named(small, tmp_path):
    files = binary_files()
    del files["data_batch_3.bin"]
    with pytest.raises(DataError, match="data_batch_3.bin cannot be read"):
        cifar10.load("train", write_folder(tmp_path, files))


def test_a_folder_without_cifar10_is_named(tmp_path):
    assert_refused(str(tmp_path), str(tmp_path), "test_batch.bin")
    assert_refused(str(tmp_path / "missing"), "missing", "neither a folder nor a tarball")


def test_an_unknown_split_and_a_sample_are_refused(tmp_path):
    with pytest.raises(DataError, match="'validation': choose from train, test"):
        cifar10.load("validation", str(tmp_path))
    with pytest.raises(DataError, match="no sample of CIFAR-10"):
        cifar10.load("test", sample=True)


# Keras


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar10, "KERAS_FOLDER", str(tmp_path / "no" / PYTHON))


def test_the_keras_cache_is_read_without_a_download(small, monkeypatch, tmp_path):
    monkeypatch.setattr(keras.utils, "get_file", lambda *a, **k: pytest.fail("download"))
    folder = write_folder(tmp_path / PYTHON, python_files())
    monkeypatch.setattr(cifar10, "KERAS_FOLDER", folder)
    data = cifar10.load("test")
    assert_small(data, "test")
    assert data.source == folder


def test_the_download_is_read_as_the_python_tarball(small, monkeypatch, tmp_path, no_cache):
    write_folder(tmp_path, {"download": tarball(PYTHON, python_files())})
    asked = []

    def get_file(name, origin):
        asked.append((name, origin))
        return str(tmp_path / "download")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert_small(cifar10.load("train"), "train")
    # The name that Keras' own loader gives the file, so that both share one download.
    assert asked == [
        ("cifar-10-batches-py.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz")
    ]


def test_without_a_download_the_error_says_what_to_pass(monkeypatch, no_cache, capsys):
    def fail(*arguments, **keywords):
        print("Downloading data from somewhere")
        raise Exception("URL fetch failure\nNone -- Name or service not known")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    with pytest.raises(DataError, match="URL fetch failure.*--data_dir") as error:
        cifar10.load("test")
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""  # standard output is for results
