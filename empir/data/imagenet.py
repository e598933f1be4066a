"""ImageNet from TFRecords, decoded as it is needed: nothing grows with the number of images.

    empir convert --help

Preprocessing is the original's (docs/original.md, Data): the image's short side becomes 256 pixels
(bilinear), the central 224x224 are cut out, the channels are put in the order blue, green, red, and
means and deviations are applied in the order red, green, blue. That mismatch (docs/original.md,
Defects 19) belongs to the released checkpoints; `correct_channels` mends it for new trainings.
Training images are distorted instead (`distortion`): a random crop is resized to 224x224, flipped,
and lit.
"""

import collections
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Optional

import numpy as np

from empir import runtime
from empir.data import distortion, pictures
from empir.data.dataset import Dataset
from empir.data.tfrecords import LABEL_OFFSETS, Records, find_shards
from empir.errors import DataError

log = logging.getLogger(__name__)

SIZE = 224
SHORT_SIDE = 256
SHUFFLED = 10000  # records that are shuffled together (docs/original.md, Training)
AHEAD = 3  # training batches that are prepared while one is used
NUM_CLASSES = 1000
MEAN = np.array([123.68, 116.78, 103.94], np.float32)  # red, green, blue
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32) * np.float32(255)
#: The original's range for attacks; images lie in -2.118..2.641 of it.
CLIP_RANGE = (-2.2, 2.7)
SYNSETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "imagenet_synsets.txt")


def synsets():
    """The 1,000 WordNet ids in the order of the labels 0..999."""
    with open(SYNSETS) as file:
        return file.read().split()


def load(
    split: str = "test",
    data_dir=None,
    sample: bool = False,
    label_offset: Optional[int] = None,
    allow_missing_shards: bool = False,
    correct_channels: bool = False,
) -> Dataset:
    """Open a split of ImageNet; images are read and decoded when they are indexed.

    Args:
      split: "train" or "test" (the validation images).
      data_dir: folder of the TFRecords, the original's --imagenet_path (see `tfrecords`).
      sample: must be False: no sample of ImageNet is embedded.
      label_offset: subtracted from the stored labels; None = 0 for files named Val, which hold
        0..999, and 1 for the others, which hold 1..1000.
      allow_missing_shards: warn of missing files instead of refusing.
      correct_channels: normalise each channel by its own mean and deviation.

    Returns:
      A dataset whose images, float32 [n, 224, 224, 3], and labels, int64 [n], are arrays on
      demand: index them with an integer array.

    Raises:
      DataError: if files are missing, truncated or no TFRecords; and, when it is met, for a record
        without a JPEG or with a label outside 0..999.
    """
    if sample or not data_dir:
        raise DataError(
            "ImageNet cannot be downloaded or embedded: pass --imagenet_path=FOLDER with TFRecords"
        )
    if split not in ("train", "test"):
        raise DataError(f"split {split!r}: choose from train, test")
    shards = find_shards(data_dir, split)
    if shards.missing:
        text = (
            f"{data_dir}: {len(shards.missing)} of {len(shards.missing) + len(shards.paths)} files"
            f" are missing, the first is {shards.missing[0]}"
        )
        if not allow_missing_shards:
            raise DataError(text + ": fetch them, or pass --allow_missing_shards")
        log.warning(text)
    offset = LABEL_OFFSETS[shards.name] if label_offset is None else label_offset
    reader = _Reader(Records(shards.paths), offset, correct_channels)
    count = len(reader.records)
    return Dataset(
        name="imagenet",
        split=split,
        images=_Images(reader, count),
        labels=_Labels(reader, count),
        num_classes=NUM_CLASSES,
        clip_range=CLIP_RANGE,
        source=data_dir,
        channels="BGR",
    )


class _OnDemand:
    """What `Dataset` needs of an array: length, shape, dtype, rows, the first n."""

    def __init__(self, reader, count):
        self._reader = reader
        self._count = count

    def __len__(self):
        return self._count

    def first(self, n: int):
        """The same for the first n examples."""
        return type(self)(self._reader, n)

    @property
    def digest(self) -> str:
        """A digest of which examples these are and how they are read."""
        return f"{self._reader.digest}:{self._count}"

    def __getitem__(self, rows):
        """Rows, as of an array, by an index along the first axis; one row by a number."""
        rows = np.arange(self._count)[rows]
        return self._read(rows) if rows.ndim else self._read(rows[np.newaxis])[0]

    def _read(self, rows):
        raise NotImplementedError


class _Images(_OnDemand):
    dtype = np.dtype(np.float32)

    @property
    def shape(self):
        """(n, 224, 224, 3)."""
        return (self._count, SIZE, SIZE, 3)

    def _read(self, rows):
        return self._reader.batch(rows, self._count)[0]

    def order(self, seed: int, epoch: int):
        """See `Dataset.order`: shuffled within groups of files (`Records.shuffled`)."""
        return self._reader.order(np.random.RandomState([seed, epoch]), self._count)

    def stream(self, batches, seed: int, epoch: int):
        """See `Dataset.stream`: images distorted at random, a function of (seed, epoch, row)."""
        return self._reader.stream(batches, seed, epoch)


class _Labels(_OnDemand):
    dtype = np.dtype(np.int64)

    @property
    def shape(self):
        """(n,)."""
        return (self._count,)

    def _read(self, rows):
        return self._reader.batch(rows, self._count)[1]

    def __array__(self, dtype=None):
        return np.asarray(self._reader.labels(self._count), dtype)


class _Reader:
    """Reads and decodes batches on all processors, the next batch while this one is used."""

    def __init__(self, records, label_offset, correct_channels):
        self.records = records
        self.digest = f"{records.digest}:{label_offset}:{int(correct_channels)}"
        self._label_offset = label_offset
        self._decoder = Decoder(correct_channels)
        self._distorter = None  # made when training asks for it
        self._correct_channels = correct_channels
        self._decoding = ThreadPoolExecutor(runtime.available_cpus())
        self._ahead = ThreadPoolExecutor(1)
        self._batches = {}  # rows -> future, of the last batch and the next
        self._labels = None  # of all rows that were asked for

    def batch(self, rows, count):
        """(images, labels) of an array of rows."""
        rows = tuple(int(row) for row in rows)
        after = rows[-1] + 1
        following = tuple(range(after, min(after + len(rows), count)))
        if rows != tuple(range(rows[0], after)):  # of chosen rows there is no next batch
            following = ()
        batches = {
            wanted: self._batches.get(wanted) or self._ahead.submit(self._read, wanted)
            for wanted in (rows, following)
            if wanted
        }
        self._batches = batches
        return batches[rows].result()

    def labels(self, count):
        """Labels of the first rows, without decoding images."""
        if self._labels is None or len(self._labels) < count:
            rows = self._decoding.map(lambda row: self._example(row, lambda _: None), range(count))
            self._labels = np.array([label for _, label in rows])
        return self._labels[:count]

    def order(self, random, count):
        """A permutation of the first `count` rows."""
        order = self.records.shuffled(random, SHUFFLED)
        return order[order < count]

    def stream(self, batches, seed, epoch):
        """(images, labels) of each batch, distorted; the next ones are prepared meanwhile."""
        if self._distorter is None:
            self._distorter = Distorter(self._correct_channels)

        def distorted(row):
            random = np.random.RandomState([seed, epoch, row])
            return self._example(row, lambda encoded: self._distorter(encoded, random))

        waiting = collections.deque()
        for rows in batches:
            waiting.append([self._decoding.submit(distorted, int(row)) for row in rows])
            if len(waiting) > AHEAD:
                yield _stack(future.result() for future in waiting.popleft())
        while waiting:
            yield _stack(future.result() for future in waiting.popleft())

    def _read(self, rows):
        return _stack(self._decoding.map(lambda row: self._example(row, self._decoder), rows))

    def _example(self, row, decode):
        encoded, stored = parse_example(self.records.read(row), self.records.where(row))
        label = stored - self._label_offset
        if not 0 <= label < NUM_CLASSES:
            raise DataError(
                f"{self.records.where(row)}: label {stored} less the offset {self._label_offset} is"
                " not in 0..999: the original's Val files hold 0..999 (--val_label_offset=0), all"
                " others 1..1000 (offset 1)"
            )
        try:
            return decode(encoded), label
        except ValueError as error:
            raise DataError(f"{self.records.where(row)}: {error}")


def _stack(examples):
    images, labels = zip(*examples)
    return np.stack(images), np.array(labels)


def parse_example(data: bytes, where: str):
    """JPEG and stored label of a serialized `tf.train.Example`; `DataError` if it has none."""
    from empir.runtime import tf

    example = tf.train.Example()
    try:
        example.ParseFromString(data)
        features = example.features.feature
        (encoded,) = features["image/encoded"].bytes_list.value
        (label,) = features["image/class/label"].int64_list.value
    except Exception as error:  # protobuf raises its own kinds
        raise DataError(
            "%s is no ImageNet example (%s): it needs image/encoded and image/class/label"
            % (where, str(error).split("\n")[0])
        )
    return encoded, label


class Decoder:
    """JPEG bytes -> the original's evaluation image, float32 [224, 224, 3]; usable by threads.

    Args:
      correct_channels: normalise each channel by its own mean and deviation.
    """

    def __init__(self, correct_channels: bool = False):
        from empir.runtime import tf

        self._error = tf.errors.InvalidArgumentError
        with tf.Graph().as_default() as graph, tf.device("/cpu:0"):
            self._encoded = tf.placeholder(tf.string, [], "encoded")
            self._image = normalize(self._cut(), correct_channels)
            self._session = runtime.cpu_session(graph)

    def _cut(self):
        """RGB image in 0..255, float32 [224, 224, 3]."""
        from empir.runtime import tf

        return central_crop(tf.cast(tf.image.decode_jpeg(self._encoded, channels=3), tf.float32))

    def __call__(self, encoded: bytes) -> np.ndarray:
        """Decode one image; ValueError if it is no JPEG, or claims too many pixels."""
        pictures.check_size(encoded)
        return self._run(self._image, {self._encoded: encoded})

    def _run(self, tensor, feed):
        try:
            return self._session.run(tensor, feed)
        except self._error as error:
            raise ValueError("the image cannot be decoded (%s)" % error.message.split("\n")[0])


class Distorter(Decoder):
    """JPEG bytes -> the original's training image: crop, flip and light drawn at random."""

    def _cut(self):
        from empir.runtime import tf

        self._shape = tf.image.extract_jpeg_shape(self._encoded)
        self._window = tf.placeholder(tf.int32, [4], "window")
        self._flip = tf.placeholder(tf.bool, [], "flip")
        self._light = tf.placeholder(tf.float32, [3], "light")
        image = tf.image.decode_and_crop_jpeg(self._encoded, self._window, channels=3)
        image = tf.image.resize_bilinear(
            tf.cast(image, tf.float32)[tf.newaxis], [SIZE, SIZE], align_corners=False
        )[0]
        return tf.cond(self._flip, lambda: image[:, ::-1], lambda: image) + self._light

    def __call__(  # type: ignore[override]  # what a distortion draws is its second argument
        self, encoded: bytes, random: np.random.RandomState
    ) -> np.ndarray:
        """Decode one image, distorted as `random` draws; ValueError as of `Decoder`."""
        pictures.check_size(encoded)
        height, width, _ = self._run(self._shape, {self._encoded: encoded})
        drawn = distortion.draw(random, int(height), int(width))
        feed = {self._window: drawn.window, self._flip: drawn.flip, self._light: drawn.light}
        feed[self._encoded] = encoded
        return self._run(self._image, feed)


def central_crop(image):
    """Float image [h, w, 3] -> its central [224, 224, 3] at a short side of 256 pixels."""
    from empir.runtime import tf

    size = tf.cast(tf.shape(image)[:2], tf.float32)
    size = tf.cast(tf.rint(size * SHORT_SIDE / tf.reduce_min(size)), tf.int32)
    resized = tf.image.resize_bilinear(image[tf.newaxis], size, align_corners=False)[0]
    top, left = tf.unstack((size - SIZE) // 2)
    cut = resized[top : top + SIZE, left : left + SIZE]
    cut.set_shape([SIZE, SIZE, 3])
    return cut


def normalize(image, correct_channels: bool = False):
    """RGB in 0..255, [..., 3] -> normalised BGR, with the original's mismatch unless corrected."""
    mean, deviation = (MEAN[::-1], DEVIATION[::-1]) if correct_channels else (MEAN, DEVIATION)
    return (image[..., ::-1] - mean) / deviation
