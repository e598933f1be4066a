"""TFRecord files and pictures from anywhere: each byte of a record is checked before it counts."""

import os
import struct

import numpy as np
import pytest

from empir.data import convert, imagenet, pictures, tfrecords
from empir.errors import DataError
from tests.support.records import SYNSETS, encode, everything, features, write_records

NAME = "Val-00000-of-00001"
LABELS = (3, 1, 4)


# The checksum


def test_the_checksum_is_what_tensorflow_writes(tmp_path, random):
    lengths = (0, 1, 5000)
    records = [random.bytes(length) for length in lengths]
    write_records(tmp_path / "records", *records)
    stored = (tmp_path / "records").read_bytes()
    position = 0
    for record in records:
        length, of_length = struct.unpack("<QI", stored[position : position + 12])
        position += 12 + length
        assert tfrecords.masked_crc(struct.pack("<Q", length)) == of_length
        assert (
            tfrecords.masked_crc(record) == struct.unpack("<I", stored[position : position + 4])[0]
        )
        position += 4


# Records


@pytest.fixture
def shard(tmp_path, random):
    """A validation file of three images."""
    picture = encode(random.randint(0, 256, (40, 40, 3)).astype(np.uint8))
    path = tmp_path / NAME
    write_records(
        path, *(features(image__encoded=picture, image__class__label=label) for label in LABELS)
    )
    return path


def places(path):
    """Of each record: where its length, its data and its data's checksum start."""
    data, position, found = path.read_bytes(), 0, []
    while position < len(data):
        (length,) = struct.unpack("<Q", data[position : position + 8])
        found.append((position, position + 12, position + 12 + length))
        position += 16 + length
    return found


def change(path, position, flip=1):
    data = bytearray(path.read_bytes())
    data[position] ^= flip
    path.write_bytes(bytes(data))


def label_of(path, record):
    """Position of the byte that holds a record's label."""
    data, (_, start, end) = path.read_bytes(), places(path)[record]
    key = data.index(b"image/class/label", start, end)
    integers = data.index(b"\x1a", key)  # the tag of an Int64List
    return data.index(bytes([LABELS[record]]), integers, end)


@pytest.mark.parametrize("record", [0, 1, 2])
@pytest.mark.parametrize("what", ["label", "picture", "checksum"])
def test_a_changed_bit_of_a_record_is_found_when_it_is_read(shard, record, what):
    _, start, end = places(shard)[record]
    position = {"picture": start + 300, "checksum": end + 2}.get(what)
    change(shard, label_of(shard, record) if position is None else position)
    data = imagenet.load("test", str(shard.parent))
    says = r"record %d of .*%s is damaged \(its data have not the checksum" % (record, NAME)
    for read in (lambda: everything(data), lambda: np.asarray(data.labels)):
        with pytest.raises(DataError, match=says) as error:
            read()
        assert "\n" not in str(error.value)
    others = np.array([row for row in range(3) if row != record])
    assert list(data.labels[others]) == [LABELS[row] for row in others]


@pytest.mark.parametrize("record", [1, 2])
@pytest.mark.parametrize("byte", [0, 7, 8, 11])
def test_a_changed_length_is_found_when_the_file_is_opened(shard, record, byte):
    change(shard, places(shard)[record][0] + byte)
    with pytest.raises(DataError, match="record %d of .*%s is damaged.*length" % (record, NAME)):
        imagenet.load("test", str(shard.parent))


def test_a_first_record_without_a_valid_length_is_no_tfrecord_file(shard):
    change(shard, 0)
    with pytest.raises(DataError, match="%s is truncated or no TFRecord file" % NAME):
        imagenet.load("test", str(shard.parent))


def test_a_record_that_claims_more_than_an_image_is_refused_before_it_is_read(tmp_path):
    length = struct.pack("<Q", 1 << 40)
    with open(str(tmp_path / NAME), "wb") as file:
        file.write(length + struct.pack("<I", tfrecords.masked_crc(length)))
        file.truncate((1 << 40) + 16)  # a sparse file, which takes no disk
    with pytest.raises(DataError, match="record 0 of .*%s claims 1099511627776 bytes" % NAME):
        imagenet.load("test", str(tmp_path))


def test_files_that_change_after_they_were_opened_are_found(shard):
    data = imagenet.load("test", str(shard.parent))
    other = features(image__encoded=b"another picture", image__class__label=1)
    write_records(shard, other, other, other)
    with pytest.raises(DataError, match="record 0 of"):
        everything(data)


def test_the_digest_of_files_is_what_it_was_in_records_of_before(tmp_path):
    write_records(tmp_path / NAME, b"first", b"second record")
    write_records(tmp_path / "other", b"")
    paths = [str(tmp_path / name) for name in (NAME, "other")]
    assert tfrecords.Records(paths).digest == (
        "051e60de6761637707caa11fae90b5a1d4fe6c9dda80c77bed4d1a09c4e5a1a4"
    )


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, kind):
    path = str(tmp_path / NAME)
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda p: os.symlink("/dev/zero", p)}[kind](
        path
    )
    with pytest.raises(DataError, match="%s is a %s, not a file" % (NAME, kind)):
        imagenet.load("test", str(tmp_path))


# Pictures


def claiming(encoded, width, height):
    """A JPEG or PNG that claims another size."""
    if encoded.startswith(b"\x89PNG"):
        return encoded[:16] + struct.pack(">II", width, height) + encoded[24:]
    start = encoded.index(b"\xff\xc0") + 5
    return encoded[:start] + struct.pack(">HH", height, width) + encoded[start + 4 :]


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_the_size_of_a_picture_is_read_from_its_header(kind, random):
    encoded = encode(random.randint(0, 256, (30, 50, 3)).astype(np.uint8), kind)
    assert pictures.size(encoded) == (50, 30)
    assert pictures.size(claiming(encoded, 60000, 50000)) == (60000, 50000)
    for length in range(len(encoded)):
        assert pictures.size(encoded[:length]) in (None, (50, 30))


@pytest.mark.parametrize(
    "encoded, size",
    [
        (b"GIF89a\x05\x00\x03\x01", (5, 259)),
        (b"\xff\xd8\xff\xff\xff\xc2\x00\x11\x08\x00\x01\x00\x02\x03", (2, 1)),  # fill, progressive
        (b"\xff\xd8\xff\xe0\x00\x04\xff\xc0\xff\xc0\x00\x11\x08\x00\x01\x00\x02\x03", (2, 1)),
        (b"\xff\xd8\xff\xda\x00\x04\x00\x00\xff\xc0\x00\x11\x08\x00\x01\x00\x02\x03", None),
        (b"no picture", None),
        (b"", None),
    ],
)
def test_sizes_of_rare_pictures(encoded, size):
    assert pictures.size(encoded) == size


@pytest.mark.parametrize("decoder", ["whole", "distorted"])
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_picture_that_claims_too_many_pixels_is_not_decoded(tmp_path, random, kind, decoder):
    encoded = encode(random.randint(0, 256, (30, 50, 3)).astype(np.uint8), kind)
    bomb = claiming(encoded, 60000, 50000)
    write_records(tmp_path / NAME, features(image__encoded=bomb, image__class__label=1))
    os.rename(str(tmp_path / NAME), str(tmp_path / NAME.replace("Val", "Train")))
    data = imagenet.load("train", str(tmp_path))
    with pytest.raises(DataError, match="record 0 of .* claims 60000 x 50000 pixels; at most 64"):
        if decoder == "whole":
            everything(data)
        else:
            list(data.stream([np.array([0])], 1, 0))


# Conversion


def source(tmp_path, name="a.JPEG"):
    """A folder per synset with one good image, and the path of another."""
    folder = tmp_path / "tree" / SYNSETS[3]
    folder.mkdir(parents=True)
    (folder / "good.JPEG").write_bytes(encode(np.zeros((30, 30, 3), np.uint8)))
    return folder / name


def converted(tmp_path):
    line = ["convert", "--source=%s" % (tmp_path / "tree"), "--out=%s" % (tmp_path / "out")]
    return convert.main(line + ["--split=val", "--shards=1", "--noprogress"])


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_pictures_that_claim_too_many_pixels_are_left_out(tmp_path, kind):
    bomb = claiming(encode(np.zeros((30, 30, 3), np.uint8), kind), 60000, 50000)
    source(tmp_path).write_bytes(bomb)
    assert converted(tmp_path) == 0
    assert len(imagenet.load("test", str(tmp_path / "out")).labels) == 1
    problems = (tmp_path / "out" / "Val-problems.txt").read_text()
    assert "a.JPEG: left out, the image claims 60000 x 50000 pixels" in problems


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_an_image_that_is_no_file_is_refused(tmp_path, kind):
    path = str(source(tmp_path))
    (os.mkfifo if kind == "pipe" else os.mkdir)(path)
    with pytest.raises(DataError, match="a.JPEG is a %s, not a file" % kind):
        converted(tmp_path)


def test_a_list_of_labels_that_is_a_pipe_is_not_waited_for(tmp_path):
    folder = source(tmp_path).parent
    os.mkfifo(str(tmp_path / "labels"))
    with pytest.raises(DataError, match="--labels=.*labels: .* is a pipe, not a file"):
        convert.find_sources(str(folder), str(tmp_path / "labels"))
