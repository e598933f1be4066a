"""Data files made to harm: bombs, pipes, pickles that run code. Each is one line that names it."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import pickle
import resource
import struct
import tarfile
import tempfile
import zipfile

import numpy as np
import pytest

from empir.data import cifar10, files, imagenet, mnist, own
from empir.errors import DataError
from tests.support.batches import BINARY, small_records, tarball, write_folder
from tests.support.records import write_records

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
TARBALL = "cifar-10-binary.tar.gz"


@contextlib.contextmanager
def refused(*texts):
    """A `DataError` of one line with the texts, for which no more than 300 MB are taken."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError) as error:
        yield
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300e3  # kB


# What is no file, or may not be read

#: File -> how it is read, of each file that a command opens.
READ = {
    IMAGES: mnist.load,
    IMAGES + ".gz": mnist.load,
    "mnist.npz": mnist.load,
    "test_batch": cifar10.load,
    "test_batch.bin": cifar10.load,
    TARBALL: cifar10.load,
    "Val-00000-of-00001": imagenet.load,
    "mine.npz": lambda split, folder: own.load(split, os.path.join(folder, "mine.npz")),
}
KINDS = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a device": lambda path: os.symlink("/dev/zero", path),
    "a link to a pipe": lambda path: (os.mkfifo(path + "-pipe"), os.symlink(path + "-pipe", path)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READ)
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, name, kind):
    KINDS[kind](str(tmp_path / name))
    with refused(name, "%s, not a file" % kind.replace("a link to ", "")):
        READ[name]("test", str(tmp_path))


def test_a_pipe_as_a_tarball_is_refused(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    with refused("is a pipe, not a file"):
        cifar10.load("test", str(tmp_path / "pipe"))


@pytest.fixture
def as_nobody():
    """A folder that everybody may enter, for a user who is not root."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield folder, lambda: os.seteuid(65534 if user == 0 else user)
        os.seteuid(user)
        os.chmod(folder, 0o755)
        for name in os.listdir(folder):
            os.chmod(os.path.join(folder, name), 0o700)


@pytest.mark.parametrize("name", READ)
def test_files_that_may_not_be_read_are_named(as_nobody, name):
    folder, become_nobody = as_nobody
    write_folder(folder, {name: b"secret"})
    os.chmod(os.path.join(folder, name), 0)
    become_nobody()
    with refused(name, "Permission denied"):
        READ[name]("test", folder)


@pytest.mark.parametrize("load", [mnist.load, cifar10.load, imagenet.load])
def test_folders_that_may_not_be_read_are_named(as_nobody, load):
    folder, become_nobody = as_nobody
    os.mkdir(os.path.join(folder, "data"), 0)
    become_nobody()
    with refused(os.path.join(folder, "data"), "Permission denied"):
        load("test", os.path.join(folder, "data"))


# MNIST


def idx(*shape, magic=(0, 0, 8)):
    return bytes(magic + (len(shape),)) + struct.pack(">%dI" % len(shape), *shape)


#: What it is -> its bytes, gzipped if it is a bomb; what the error says.
IDX = {
    "bomb": (gzip.compress(idx(10000, 28, 28) + bytes(10**8)), "more bytes uncompressed"),
    "claim": (gzip.compress(idx(2**32 - 1, 28, 28)), "claims 1.68e+04 GB"),
    "sides": (idx(10000, 2**31, 2**31), "10000x2147483648x2147483648"),
    "floats": (idx(10000, 28, 28, magic=(0, 0, 13)), "starts with the bytes 00000d03, expected"),
    "labels": (idx(10000), "starts with the bytes 00000801, expected 00000803"),
    "text": (b"<html>404</html>", "starts with the bytes 3c68746d, expected 00000803"),
    "header": (idx(10000, 28, 28)[:9], "ends inside its header"),
    "nothing": (b"", "holds 0 bytes"),
    "no images": (idx(0, 28, 28), "there are none"),
}


@pytest.mark.parametrize("what", IDX)
def test_idx_files_are_not_unpacked_beyond_what_they_claim(tmp_path, what):
    data, says = IDX[what]
    name = IMAGES + (".gz" if data.startswith(b"\x1f") else "")
    write_folder(tmp_path, {name: data, LABELS: idx(0)})
    with refused("" if what == "no images" else name, says):
        mnist.load("test", str(tmp_path), any_data=True)


def npy(header, data=b"", version=1):
    """An .npy file with a header that is written by hand."""
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + data


def claims(shape, descr="'|u1'"):
    text = "{'descr': %s, 'fortran_order': False, 'shape': %s, }" % (descr, shape)
    return text.encode("ascii")


#: An array of an .npz file -> its bytes; what the error says.
NPY = {
    "petabytes": (npy(claims((10**5, 10**5, 10**5))), "expected"),
    "more than 64 bits": (npy(claims((10**30, 28, 28))), "claims 7.84e+23 GB"),
    "negative": (npy(claims((-1, 28, 28))), "no array of numbers"),
    "many of nothing": (npy(claims((10**9, 0, 28))), "expected"),
    "fewer numbers": (npy(claims((4, 28, 28)), bytes(100)), "fewer numbers than it claims"),
    "more numbers": (npy(claims((4, 28, 28)), bytes(10**8)), "more numbers than it claims"),
    "objects": (npy(claims((4, 28, 28), "'|O'"), pickle.dumps(1)), "no array of numbers"),
    "records": (npy(claims((4, 28, 28), "[('a', '<f4')]")), "no array of numbers"),
    "nested": (npy(claims((4,), "[('a', '|u1', (28, 28))]")), "no array of numbers"),
    "text": (npy(claims((4, 28, 28), "'<U1000000'")), "no array of numbers"),
    "dates": (npy(claims((4, 28, 28), "'<M8[s]'")), "no array of numbers"),
    "a long header": (npy(b" " * 20000), "header of 20000 bytes"),
    "a longer header": (npy(b"", version=2)[:8] + b"\xff" * 4, "header of 4294967295 bytes"),
    "a deep header": (npy(b"(" * 9000), "cannot be read as an .npz file"),
    "another version": (npy(claims((4, 28, 28)), version=9), "cannot be read as an .npz file"),
    "no array": (b"text", "cannot be read as an .npz file"),
    "nothing": (b"", "cannot be read as an .npz file"),
}


@pytest.mark.parametrize("what", NPY)
@pytest.mark.parametrize("loader", ["mnist.npz", "mine.npz"])
def test_arrays_are_read_as_far_as_they_are_numbers(tmp_path, loader, what):
    data, says = NPY[what]
    with zipfile.ZipFile(str(tmp_path / loader), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_test.npy", data)
        archive.writestr("y_test.npy", npy(claims((4,)), bytes(4)))
    if loader == "mine.npz":  # where labels may be what does not fit
        with refused(loader):
            own.load("test", str(tmp_path / loader))
    else:
        with refused(loader, says):
            mnist.load("test", str(tmp_path), any_data=True)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write_are_refused(tmp_path, method):
    with zipfile.ZipFile(str(tmp_path / "mnist.npz"), "w", method) as archive:
        archive.writestr("x_test.npy", npy(claims((4, 28, 28)), bytes(3136)))
    with refused("mnist.npz: x_test is compressed as NumPy compresses none"):
        mnist.load("test", str(tmp_path), any_data=True)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.99])
def test_a_cut_archive_is_named(tmp_path, keep):
    stream = io.BytesIO()
    np.savez(stream, x_test=np.zeros((4, 28, 28), np.uint8), y_test=np.zeros(4, np.uint8))
    data = stream.getvalue()
    write_folder(tmp_path, {"mnist.npz": data[: int(keep * len(data))]})
    with refused("mnist.npz cannot be read as an .npz file"):
        mnist.load("test", str(tmp_path))


# CIFAR-10


@pytest.mark.parametrize("name", ["test_batch", "test_batch.bin"])
def test_batches_that_are_too_large_are_not_read(tmp_path, name):
    with open(str(tmp_path / name), "wb") as file:
        file.truncate(1 << 40)  # a sparse file, which takes no disk
    with refused(name, "holds 1099511627776 bytes, more than"):
        cifar10.load("test", str(tmp_path))


def tar_header(name, size, kind=tarfile.REGTYPE):
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


BATCH = BINARY + "/test_batch.bin"
PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize(
    "start, says",
    [
        (tar_header("other", 1 << 40), "unpacks to more"),
        (tar_header("pax", 1 << 40, tarfile.XHDTYPE), "unpacks to more"),
        (tar_header("long", 1 << 40, tarfile.GNUTYPE_LONGNAME), "unpacks to more"),
        (tar_header(BATCH, 1 << 40), "test_batch.bin in"),
    ],
    ids=["skipped", "extended header", "long name", "batch"],
)
def test_tarballs_are_not_unpacked_beyond_a_limit(tmp_path, monkeypatch, pack, start, says):
    monkeypatch.setattr(cifar10, "MOST_UNPACKED", 10**6)
    write_folder(tmp_path, {TARBALL: PACK[pack](start + bytes(10**7))})
    with refused(TARBALL, says):
        cifar10.load("test", str(tmp_path))


@pytest.mark.parametrize("pack", PACK)
def test_tarballs_load_however_they_are_compressed(tmp_path, pack):
    records = small_records("test_batch").tobytes()
    plain = gzip.decompress(tarball(BINARY, {"test_batch.bin": records}))
    write_folder(tmp_path, {"mine": PACK[pack](plain), "plain": plain})
    for name in ("mine", "plain"):
        assert len(cifar10.load("test", str(tmp_path / name), any_data=True).labels) == 8


# Pickles


def text(value):
    """SHORT_BINSTRING."""
    return b"U" + bytes([len(value)]) + value


def call(module, name, arguments=b")"):
    """GLOBAL and REDUCE."""
    return ("c%s\n%s\n" % (module, name)).encode("ascii") + arguments + b"R."


COMMAND = text(b"touch ran") + b"\x85"
#: Pickles that would run something, and what the error says.
HOSTILE = {
    "os.system": (call("os", "system", COMMAND), "os.system"),
    "posix.system": (call("posix", "system", COMMAND), "posix.system"),
    "popen": (call("subprocess", "Popen", COMMAND), "subprocess.Popen"),
    "eval": (call("builtins", "eval", COMMAND), "builtins.eval"),
    "python 2's eval": (call("__builtin__", "eval", COMMAND), "__builtin__.eval"),
    "exec": (call("builtins", "exec", COMMAND), "builtins.exec"),
    "import": (call("builtins", "__import__", COMMAND), "builtins.__import__"),
    "open": (call("builtins", "open", text(b"ran") + text(b"w") + b"\x86"), "builtins.open"),
    "getattr": (call("builtins", "getattr", COMMAND), "builtins.getattr"),
    "type": (call("builtins", "type", COMMAND), "builtins.type"),
    "map": (call("builtins", "map", COMMAND), "builtins.map"),
    "compile": (call("builtins", "compile", COMMAND), "builtins.compile"),
    "partial": (call("functools", "partial", COMMAND), "functools.partial"),
    "attrgetter": (call("operator", "attrgetter", COMMAND), "operator.attrgetter"),
    "loads": (call("pickle", "loads", COMMAND), "pickle.loads"),
    "import_module": (call("importlib", "import_module", COMMAND), "importlib.import_module"),
    "code": (call("types", "CodeType", COMMAND), "types.CodeType"),
    "copyreg": (call("copyreg", "__newobj__", COMMAND), "copyreg.__newobj__"),
    "numpy.load": (call("numpy", "load", COMMAND), "numpy.load"),
    "numpy.save": (call("numpy", "save", COMMAND), "numpy.save"),
    "memmap": (call("numpy", "memmap", COMMAND), "numpy.memmap"),
    "exec_command": (call("numpy.distutils.exec_command", "exec_command", COMMAND), "numpy.distu"),
    "keras": (call("keras.models", "load_model", COMMAND), "keras.models.load_model"),
    "this package": (call("empir.records.runs", "check_writable", COMMAND), "empir.records.runs"),
    "codecs.encode": (call("codecs", "encode", COMMAND), "codecs.encode"),
    "_codecs.decode": (call("_codecs", "decode", COMMAND), "_codecs.decode"),
    "_codecs.lookup": (call("_codecs", "lookup", COMMAND), "_codecs.lookup"),
    "another codec": (call("_codecs", "encode", text(b"a") + text(b"zip") + b"\x86"), "'zip'"),
    "another error handler": (call("_codecs", "encode", (text(b"latin1") * 3) + b"\x87"), "TypeE"),
    "bytes to encode": (call("_codecs", "encode", b"C\1a" + text(b"latin1") + b"\x86"), "latin1"),
    "instance": (b"(S'touch ran'\nios\nsystem\n.", "os.system"),
    "object": (b"(cos\nsystem\nS'touch ran'\no.", "os.system"),
    "stack global": (b"\x80\x04\x8c\x02os\x8c\x06system\x93" + COMMAND + b"R.", "os.system"),
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
    "extension": (b"\x80\x02\x82\x01.", "unregistered extension"),
    "persistent id": (b"Pfile\n.", "persistent"),
    "state of a class": (b"cnumpy\nndarray\n}" + text(b"a") + b"K\x01sb.", "test_batch"),
    "objects numbered high": (b"K\x01r\xff\xff\xff\x7f.", "numbers its objects up to"),
    "long claim": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0fabc.", "test_batch"),
    "many bytes": (call("builtins", "bytearray", b"\x8a\x08" + b"\xff" * 7 + b"\x0f\x85"), "Error"),
    "huge array": (call("numpy", "ndarray", b"\x8a\x06" + b"\xff" * 5 + b"\x7f\x85\x85"), "Error"),
    "deep": (b"]" * 100000 + b"a" * 99999 + b".", "is no batch"),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("packed", [False, True], ids=["file", "tarball"])
def test_a_hostile_pickle_runs_nothing(tmp_path, monkeypatch, what, packed):
    monkeypatch.chdir(tmp_path)
    data, says = HOSTILE[what]
    content = {"test_batch": data}
    if packed:
        content = {"cifar-10-python.tar.gz": tarball("cifar-10-batches-py", content)}
    folder = write_folder(tmp_path / "data", content)
    with refused(folder, says):
        cifar10.load("test", folder)
    assert os.listdir(str(tmp_path)) == ["data"]


@pytest.mark.parametrize("protocol", range(5))
def test_pickles_of_python_3_load_of_any_protocol(tmp_path, protocol):
    records = small_records("test_batch")
    content = dict(data=records[:, 1:], labels=records[:, 0].tolist(), batch_label=b"\xff\0\xfe")
    content.update(empty=b"", more={"a", (1, 2)}, names=[b"file.png"] * 3)
    folder = write_folder(tmp_path, {"test_batch": pickle.dumps(content, protocol)})
    data = cifar10.load("test", folder, any_data=True)
    np.testing.assert_array_equal(data.labels, small_records("test_batch")[:, 0])
    found = files.unpickle(pickle.dumps(content, protocol), "here")
    assert found["batch_label"] == b"\xff\0\xfe" and found["names"] == [b"file.png"] * 3


def test_a_pickle_cannot_change_how_the_next_is_read():
    data = b"c_codecs\nencode\nN}" + text(b"__defaults__") + text(b"zip") + b"\x85s\x86b."
    files.unpickle(data, "here")
    with refused("TypeError"):
        files.unpickle(call("_codecs", "encode", text(b"a") + b"\x85"), "here")


# Files that are read by hand


def test_a_file_is_read_up_to_its_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert files.read_regular(str(tmp_path / "file"), 5) == b"12345"
    with refused("holds 5 bytes, more than the 4"):
        files.read_regular(str(tmp_path / "file"), 4)
    with refused("/proc/self/maps holds more than the 10 bytes"):  # its size is given as 0
        files.read_regular("/proc/self/maps", 10)
    with refused("missing cannot be read (No such file or directory)"):
        files.read_regular(str(tmp_path / "missing"), 4)


def test_a_missing_shard_between_opening_and_reading_is_named(tmp_path):
    write_records(tmp_path / "Val-00000-of-00001", b"record")
    data = imagenet.load("test", str(tmp_path))
    os.remove(str(tmp_path / "Val-00000-of-00001"))
    with refused("Val-00000-of-00001 cannot be read (No such file"):
        data.labels[np.array([0])]
