"""Small files in CIFAR-10's two formats, which the tests make."""

import io
import os
import pickle
import tarfile

import numpy as np

from empir.data import cifar10

TRAIN, TEST = cifar10.FILES["train"], cifar10.FILES["test"]
BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"
COUNT = 8  # images per file of the small CIFAR-10


def small_records(name):
    """Records of one file: uint8 [COUNT, 3073], label first."""
    random = np.random.RandomState(len(name) + int(name[-1]) if name[-1].isdigit() else 0)
    records = random.randint(0, 256, (COUNT, 3073)).astype(np.uint8)
    records[:, 0] %= 10
    return records


def pickled(records, protocol=2, **changes):
    """A Python file's bytes."""
    content = {"batch_label": "a batch", "labels": records[:, 0].tolist(), "data": records[:, 1:]}
    return pickle.dumps(dict(content, **changes), protocol)


def binary_files(names=TRAIN + TEST):
    """The binary version: file name -> bytes."""
    return {name + ".bin": small_records(name).tobytes() for name in names}


def python_files(names=TRAIN + TEST):
    """The Python version: file name -> bytes."""
    return {name: pickled(small_records(name), 4) for name in names}


def write_folder(folder, files):
    """Write files (name -> bytes) into a folder, and return its path."""
    os.makedirs(str(folder), exist_ok=True)
    for name, data in files.items():
        with open(os.path.join(str(folder), name), "wb") as file:
            file.write(data)
    return str(folder)


def tarball(folder, files):
    """Bytes of a .tar.gz with the files below `folder`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo("%s/%s" % (folder, name))
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()
