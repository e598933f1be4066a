"""JPEGs of ImageNet -> TFRecords, in the original's naming or in its converter's.

    empir convert --source=DIR --split=val --out=DIR

The source is a folder of folders, one per synset (any subset of the 1,000), whose images are put in
a random order; or the flat folder of the ILSVRC validation images with --labels=FILE, which has one
synset per line in the order of the file names, or "file name, synset"; their order is kept.

PNG images and CMYK JPEGs are stored as RGB JPEGs; images that cannot be decoded are left out. Both
are listed in OUT/<name>-problems.txt. Files appear complete; a killed conversion continues.
"""

import argparse
import hashlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import List

import numpy as np

from empir import runtime
from empir.data import pictures
from empir.data.files import listing, read_regular
from empir.data.imagenet import synsets
from empir.data.tfrecords import LABEL_OFFSETS, LONGEST, NAMES, file_name
from empir.errors import DataError, EmpirError
from empir.records import locks, runs
from empir.runtime import progress_bar

log = logging.getLogger(__name__)

SPLITS = {"train": "train", "val": "test"}
SHARDS = {"train": 1024, "val": 128}
NAMINGS = ("original", "converter")
IMAGES = (".jpeg", ".jpg", ".png")
AT_ONCE = 256  # images in memory


@dataclass(frozen=True)
class Source:
    """An image file and its class, 0..999."""

    path: str
    label: int


def main(argv) -> int:
    """Run `convert` with the flags of the module's docstring; returns the exit status."""
    flags = _parse(argv)
    runs.check_writable(flags.out)
    sources = find_sources(flags.source, flags.labels, flags.seed)
    convert(sources, flags.out, flags.split, flags.naming, flags.shards, not flags.noprogress)
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """Raise `EmpirError`, which becomes one line and exit status 2."""
        raise EmpirError(message)


def _parse(argv):
    text = dict(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser = _Parser(prog="empir", **text)
    convert = parser.add_subparsers(dest="command", parser_class=_Parser).add_parser(
        "convert", **text
    )
    convert.add_argument("--source", required=True, help="folder of the JPEGs")
    convert.add_argument("--split", required=True, choices=sorted(SPLITS))
    convert.add_argument("--out", required=True, help="the folder that --imagenet_path will name")
    convert.add_argument("--naming", default="original", choices=NAMINGS)
    convert.add_argument("--labels", help="file of the flat folder's synsets")
    convert.add_argument("--shards", type=int, help="files; default 128 for val, 1024 for train")
    convert.add_argument("--seed", type=int, default=0, help="of the images' order")
    convert.add_argument("--noprogress", action="store_true", help="no progress bar")
    flags = parser.parse_args(argv)
    if flags.command is None:
        raise EmpirError("usage: empir convert (see --help)")
    flags.shards = SHARDS[flags.split] if flags.shards is None else flags.shards
    if not 1 <= flags.shards <= 99999:
        raise EmpirError(f"--shards={flags.shards}: write 1..99999")
    if not 0 <= flags.seed < 2**32:
        raise EmpirError(f"--seed={flags.seed}: write 0..2^32 - 1")
    return flags


def find_sources(folder: str, labels=None, seed: int = 0) -> List[Source]:
    """The images of a folder per synset, in an order drawn from the seed; or of a flat folder.

    Args:
      folder: see the module's docstring.
      labels: file of the synsets of a flat folder.
      seed: of the order.

    Raises:
      DataError: if there are no images, or a name is no synset of ImageNet's 1,000.
    """
    if not os.path.isdir(folder):
        raise DataError(f"--source={folder} is not a folder")
    classes = {synset: label for label, synset in enumerate(synsets())}
    if labels:
        return _flat(folder, labels, classes)
    folders = [name for name in listing(folder) if os.path.isdir(os.path.join(folder, name))]
    unknown = [name for name in folders if name not in classes]
    if unknown:
        raise DataError(f"{os.path.join(folder, unknown[0])} is no synset of ImageNet's 1,000")
    sources = [
        Source(os.path.join(folder, synset, name), classes[synset])
        for synset in folders
        for name in _images(os.path.join(folder, synset))
    ]
    if not sources:
        raise DataError(
            f"{folder} holds no folders of images, one per synset; for a flat folder give --labels"
        )
    order = np.random.RandomState(seed).permutation(len(sources))
    return [sources[index] for index in order]


def _images(folder):
    return [name for name in listing(folder) if name.lower().endswith(IMAGES)]


def _flat(folder, labels, classes):
    names = _images(folder)
    if not names:
        raise DataError(f"{folder} has no images")
    try:
        text = read_regular(labels, LONGEST).decode("utf8")
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"--labels={labels}: {error}")
    lines = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    if all(len(words) == 1 for words in lines):
        if len(lines) != len(names):
            raise DataError(
                f"--labels={labels} has {len(lines)} lines, but {folder} has {len(names)} images"
            )
        lines = [(name, words[0]) for name, words in zip(names, lines)]
    pairs = dict(words[:2] for words in lines if len(words) > 1)
    missing = [name for name in names if name not in pairs]
    if missing:
        raise DataError(f"--labels={labels} has no line for {missing[0]}")
    for name in names:
        if pairs[name] not in classes:
            raise DataError(
                f"--labels={labels}: {pairs[name]!r} of {name} is no synset of ImageNet's 1,000"
                f" (numbers differ between lists; write synsets like {next(iter(classes))})"
            )
    return [Source(os.path.join(folder, name), classes[pairs[name]]) for name in names]


def convert(sources, out: str, split: str, naming: str, shards: int, progress: bool = True):
    """Write the TFRecords of a split; files that are there already are kept.

    Args:
      sources: images in order; file i of n takes the i-th of n consecutive parts.
      out: folder; the files go to its Val, Train, validation or train.
      split: "train" or "val".
      naming: "original" or "converter".
      shards: number of files.
      progress: show a progress bar.

    Raises:
      ResumeError: if `out` holds the state of another conversion.
      DataError: if an image file cannot be read, or `out` holds files of another number.
    """
    name = NAMES[SPLITS[split]][NAMINGS.index(naming)]
    folder = os.path.join(out, name)
    listing = "\n".join(f"{source.path} {source.label}" for source in sources)
    head = {
        "sources": hashlib.sha256(listing.encode("utf8")).hexdigest(),
        "images": len(sources),
        "shards": shards,
        "label_offset": LABEL_OFFSETS[name],
    }
    state = os.path.join(out, "converting-" + name)
    done = os.path.join(out, ".converted-" + name)
    if os.path.isdir(folder) and os.path.isdir(done) and not os.path.isdir(state):
        _remove(done, head)
        log.info("%s holds %d images", folder, len(sources))
        return
    wanted = [file_name(name, shard, shards) for shard in range(shards)]
    others = sorted(set(os.listdir(folder)) - set(wanted)) if os.path.isdir(folder) else []
    if others or (os.path.isdir(folder) and not os.path.isdir(state)):
        raise DataError(f"{folder} exists and holds {others[0] if others else 'a conversion'}")
    with locks.lock(state):
        runs.claim(state, head, True, "conversion")
        os.makedirs(folder, exist_ok=True)
        encoder = _Encoder(LABEL_OFFSETS[name])
        bounds = np.linspace(0, len(sources), shards + 1).astype(int)
        with progress_bar(len(sources), name, "image", progress) as bar:
            for shard, base in enumerate(wanted):
                part = sources[bounds[shard] : bounds[shard + 1]]
                path = os.path.join(folder, base)
                _write_shard(encoder, part, path, os.path.join(state, base), bar)
        _report(state, os.path.join(out, name + "-problems.txt"), len(sources), folder)
        # The conversion is over in one step; what follows may be killed at any point.
        os.rename(state, done)
        _remove(done, head)


def is_finished(out: str, split: str, naming: str = "original") -> bool:
    """Whether a folder holds the TFRecords of a split, and no unfinished conversion of it."""
    name = NAMES[SPLITS[split]][NAMINGS.index(naming)]
    unfinished = os.path.isdir(os.path.join(out, "converting-" + name))
    return os.path.isdir(os.path.join(out, name)) and not unfinished


def _write_shard(encoder, sources, path, state, bar):
    """Write one file and, first, the problems met in it."""
    if os.path.exists(path):
        bar.update(len(sources))
        return
    from empir.runtime import tf

    problems = []
    with ThreadPoolExecutor(runtime.available_cpus()) as pool:
        with tf.io.TFRecordWriter(state + ".writing") as writer:
            for start in range(0, len(sources), AT_ONCE):
                part = sources[start : start + AT_ONCE]
                for source, (example, problem) in zip(part, pool.map(encoder.example, part)):
                    if problem:
                        problems.append(f"{source.path}: {problem}")
                    if example is not None:
                        writer.write(example.SerializeToString(deterministic=True))
                    bar.update()
    runs.write_atomically(state + ".json", json.dumps({"problems": problems}))
    os.replace(state + ".writing", path)


def _report(state, report, images, folder):
    """Say which images had problems, in a file and on the terminal."""
    problems = []
    for base in sorted(os.listdir(state)):
        if base.endswith(".json") and base != "run.json":
            problems += runs.read_json(os.path.join(state, base))["problems"]
    if problems:
        runs.write_atomically(report, "\n".join(problems) + "\n")
        log.warning("%d of %d images had problems: see %s", len(problems), images, report)
    log.info("%s holds %d images", folder, images - sum("left out" in p for p in problems))


def _remove(done, head):
    """Delete the state of a finished conversion, its description last.

    Raises:
      ResumeError: if it is the state of another conversion.
    """
    if os.path.exists(os.path.join(done, "run.json")):
        runs.claim(done, head, True, "conversion")
    for name in sorted(os.listdir(done), key=lambda name: name == "run.json"):
        os.remove(os.path.join(done, name))
    os.rmdir(done)


class _Encoder:
    """Image files -> `tf.train.Example`s with the converter's features; usable by threads."""

    def __init__(self, label_offset):
        from empir.runtime import tf

        self._tf = tf
        self._offset = label_offset
        self._synsets = synsets()
        with tf.Graph().as_default() as graph, tf.device("/cpu:0"):
            self._encoded = tf.placeholder(tf.string, [])
            self._jpeg_shape = tf.image.extract_jpeg_shape(self._encoded)
            jpeg = tf.image.decode_jpeg(self._encoded, channels=3)
            png = tf.image.decode_png(self._encoded, channels=3)
            self._shape = tf.shape(jpeg)
            self._from_jpeg = self._again(jpeg)
            self._from_png = self._again(png)
            self._session = runtime.cpu_session(graph)

    def _again(self, image):
        encoded = self._tf.image.encode_jpeg(image, format="rgb", quality=100)
        return encoded, self._tf.shape(image)

    def example(self, source):
        """(example or None, problem or None) of one image."""
        data = read_regular(source.path, LONGEST)
        feed, problem = {self._encoded: data}, None
        try:
            pictures.check_size(data)
            if data.startswith(b"\x89PNG"):
                data, shape = self._session.run(self._from_png, feed)
                problem = "PNG, stored as JPEG"
            elif self._session.run(self._jpeg_shape, feed)[2] == 4:
                data, shape = self._session.run(self._from_jpeg, feed)
                problem = "CMYK, stored as RGB"
            else:
                shape = self._session.run(self._shape, feed)
        except ValueError as error:
            return None, f"left out, {error}"
        except self._tf.errors.InvalidArgumentError as error:
            return None, "left out, cannot be decoded (%s)" % error.message.split("\n")[0]
        return self._features(source, data, shape), problem

    def _features(self, source, data, shape):
        train = self._tf.train

        def integer(value):
            return train.Feature(int64_list=train.Int64List(value=[int(value)]))

        def text(value):
            return train.Feature(bytes_list=train.BytesList(value=[value]))

        feature = {
            "image/height": integer(shape[0]),
            "image/width": integer(shape[1]),
            "image/channels": integer(3),
            "image/colorspace": text(b"RGB"),
            "image/class/label": integer(source.label + self._offset),
            "image/class/synset": text(self._synsets[source.label].encode("ascii")),
            "image/format": text(b"JPEG"),
            "image/filename": text(os.path.basename(source.path).encode("utf8")),
            "image/encoded": text(data),
        }
        return train.Example(features=train.Features(feature=feature))
