"""ImageNet's TFRecords: both namings, labels, preprocessing, damage; and their conversion."""

import base64
import os
import shutil

import numpy as np
import pytest

from empir.data import convert, distortion, imagenet, subsets, tfrecords
from empir.errors import DataError, EmpirError, ResumeError
from empir.runtime import tf
from tests.support import GOLDEN, IMAGENET, needs_imagenet
from tests.support.records import SYNSETS, encode, everything, features, write_records


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder per synset: 12 images of 4 synsets, one of them a PNG, and a corrupt one."""
    folder = tmp_path_factory.mktemp("tree")
    random = np.random.RandomState(0)
    for synset in (SYNSETS[0], SYNSETS[1], SYNSETS[500], SYNSETS[999]):
        (folder / synset).mkdir()
        for number in range(3):
            shape = (random.randint(200, 400), random.randint(200, 400), 3)
            image = random.randint(0, 256, (shape[0] // 8 + 1, shape[1] // 8 + 1, 3))
            image = image.repeat(8, 0).repeat(8, 1)[: shape[0], : shape[1]].astype(np.uint8)
            kind = "png" if (synset, number) == (SYNSETS[1], 2) else "jpeg"
            (folder / synset / ("%d.JPEG" % number)).write_bytes(encode(image, kind))
    (folder / SYNSETS[0] / "corrupt.JPEG").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return str(folder)


def run(tree, out, *more):
    """Convert the tree's images to validation files in three shards."""
    line = ["convert", "--source=" + tree, "--out=" + str(out), "--shards=3", "--noprogress"]
    assert convert.main(line + list(more or ["--split=val"])) == 0
    return str(out)


@pytest.fixture(scope="module")
def original(tree, tmp_path_factory):
    """The tree as the original names it."""
    return run(tree, tmp_path_factory.mktemp("original"))


@pytest.fixture
def copy(original, tmp_path):
    """A copy to damage."""
    shutil.copytree(original, str(tmp_path / "copy"))
    return tmp_path / "copy"


#: split, naming -> the files' folder.
LAYOUTS = {
    ("val", "original"): "Val",
    ("val", "converter"): "validation",
    ("train", "original"): "Train",
    ("train", "converter"): "train",
}


@pytest.mark.parametrize("split, naming", LAYOUTS)
@pytest.mark.parametrize("flat", [False, True], ids=["folder", "flat"])
def test_every_naming_gives_the_same_images_and_labels(
    tree, original, tmp_path, split, naming, flat
):
    out = run(tree, tmp_path, "--split=" + split, "--naming=" + naming)
    folder = os.path.join(out, LAYOUTS[split, naming])
    assert sorted(os.listdir(folder)) == [
        "%s-%05d-of-00003" % (LAYOUTS[split, naming], n) for n in range(3)
    ]
    data = imagenet.load(convert.SPLITS[split], folder if flat else out)
    assert data.images.shape == (12, 224, 224, 3) and len(data.labels) == 12
    assert (data.name, data.num_classes, data.clip_range) == ("imagenet", 1000, (-2.2, 2.7))
    images, labels = everything(data)
    expected_images, expected_labels = everything(imagenet.load("test", original))
    np.testing.assert_array_equal(images, expected_images)
    np.testing.assert_array_equal(labels, expected_labels)
    assert images.dtype == np.float32 and labels.dtype == np.int64
    assert sorted(labels) == [0] * 3 + [1] * 3 + [500] * 3 + [999] * 3


def test_problems_are_mended_or_left_out_and_listed(original, tree):
    assert sorted(os.listdir(original)) == ["Val", "Val-problems.txt"]
    with open(os.path.join(original, "Val-problems.txt")) as file:
        lines = sorted(file.read().splitlines())
    corrupt = os.path.join(tree, SYNSETS[0], "corrupt.JPEG")
    png = os.path.join(tree, SYNSETS[1], "2.JPEG")
    assert len(lines) == 2
    assert lines[0].startswith(corrupt + ": left out, cannot be decoded (")
    assert lines[1] == png + ": PNG, stored as JPEG"


def test_a_record_has_the_converters_features(original):
    records = tfrecords.Records(tfrecords.find_shards(original, "test").paths)
    example = tf.train.Example.FromString(records.read(0))
    feature = example.features.feature
    assert sorted(feature) == sorted(
        "image/" + name
        for name in ("height", "width", "channels", "colorspace", "class/label", "class/synset")
        + ("format", "filename", "encoded")
    )
    label = feature["image/class/label"].int64_list.value[0]
    assert feature["image/class/synset"].bytes_list.value[0].decode() == SYNSETS[label]
    # The same records by TensorFlow's own reader, which checks their checksums.
    shards = tfrecords.find_shards(original, "test").paths
    read = [data for path in shards for data in tf.compat.v1.io.tf_record_iterator(path)]
    assert read == [records.read(index) for index in range(len(records))]


#: A CMYK JPEG of 16x8 pixels of one colour, (53, 216, 187) in RGB; made with Pillow.
CMYK = (
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAbEhQXFBEbFxYXHhwbIChCKyglJShROj0wQmBVZWRfVV1baniZgWpxkHNbXYW1hp"
    "Ceo6utq2eAvMm6pseZqKuk/8AAFAgACAAQBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAAFBv/EABQQAQAA"
    "AAAAAAAAAAAAAAAAAAD/2gAOBEMATQBZAEsAAD8Akrqo0YA//9k="
)


def test_cmyk_is_stored_as_rgb(tmp_path, session):
    (tmp_path / "tree" / SYNSETS[7]).mkdir(parents=True)
    (tmp_path / "tree" / SYNSETS[7] / "cmyk.JPEG").write_bytes(base64.b64decode(CMYK))
    out = run(str(tmp_path / "tree"), tmp_path / "out")
    assert "cmyk.JPEG: CMYK, stored as RGB" in (tmp_path / "out" / "Val-problems.txt").read_text()
    records = tfrecords.Records(tfrecords.find_shards(out, "test").paths)
    encoded, label = imagenet.parse_example(records.read(0), "here")
    stored = session.run(tf.image.decode_jpeg(encoded))
    assert label == 7 and stored.shape == (8, 16, 3)
    # Two lossy encodings, one at quality 30.
    np.testing.assert_allclose(stored.reshape(-1, 3).mean(0), (53, 216, 187), atol=12)


# Preprocessing


@needs_imagenet
def test_preprocessing_equals_the_originals():
    decode = imagenet.Decoder()
    with np.load(os.path.join(GOLDEN, "imagenet_preprocess.npz")) as golden:
        for name, stored in zip(golden["files"], golden["images"]):
            with open(os.path.join(IMAGENET, str(name)), "rb") as file:
                found = decode(file.read())
            # float16 rounds values below 4 by up to 2^-10.
            np.testing.assert_allclose(found, stored.astype(np.float32), rtol=0, atol=1.1e-3)


@pytest.mark.parametrize("shape", [(256, 300), (300, 256), (256, 256), (100, 150), (224, 1000)])
def test_the_centre_is_cut_at_a_short_side_of_256(shape, session):
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, np.full(shape, 7.0)], -1).astype(np.float32)
    cut = session.run(imagenet.central_crop(tf.constant(image)))
    assert cut.shape == (224, 224, 3) and (cut[..., 2] == 7).all()
    scale = 256 / min(shape)
    for axis, size in enumerate(shape):
        target = np.rint(size * scale)
        first = (target - 224) // 2 * size / target  # position of the first pixel, unaligned
        line = cut[:, 0, 0] if axis == 0 else cut[0, :, 1]
        expected = np.minimum(first + np.arange(224) * size / target, size - 1)
        np.testing.assert_allclose(line, expected, atol=1e-3 * size)


def test_the_originals_normalisation_mixes_the_channels_up():
    image = np.array([[[10.0, 100.0, 200.0]]], np.float32)
    mixed, correct = imagenet.normalize(image), imagenet.normalize(image, True)
    blue, green, red = mixed[0, 0]
    assert blue == pytest.approx((200 - 123.68) / (0.229 * 255), rel=1e-5)
    assert green == pytest.approx((100 - 116.78) / (0.224 * 255), rel=1e-5)
    assert red == pytest.approx((10 - 103.94) / (0.225 * 255), rel=1e-5)
    assert correct[0, 0, 0] == pytest.approx((200 - 103.94) / (0.225 * 255), rel=1e-5)
    assert correct[0, 0, 2] == pytest.approx((10 - 123.68) / (0.229 * 255), rel=1e-5)


def test_normalised_images_lie_inside_the_attacks_range():
    extremes = np.array([[[0.0] * 3], [[255.0] * 3]], np.float32)
    for correct in (False, True):
        values = imagenet.normalize(extremes, correct)
        assert -2.2 < values.min() and values.max() < 2.7


# Indexing


def test_images_are_a_function_of_their_row(original):
    data = imagenet.load("test", original)
    images, labels = everything(data)
    for rows in ([3], [11, 0, 5], range(4, 9), range(9, 12), range(0, 4)):
        rows = np.array(list(rows))
        np.testing.assert_array_equal(data.images[rows], images[rows])
        np.testing.assert_array_equal(data.labels[rows], labels[rows])


def test_the_first_n_and_the_digest(original, tree, tmp_path):
    data = imagenet.load("test", original)
    first = data.first(5)
    assert first.images.shape == (5, 224, 224, 3) and len(first.labels) == 5
    np.testing.assert_array_equal(first.labels[np.arange(5)], data.labels[np.arange(5)])
    with pytest.raises(EmpirError, match=r"nb_samples=13: .* has 1\.\.12"):
        data.first(13)
    assert data.digest() == imagenet.load("test", original).digest()
    others = [
        first,
        imagenet.load("test", original, label_offset=-1),
        imagenet.load("test", original, correct_channels=True),
        imagenet.load("test", run(tree, tmp_path, "--split=val", "--seed=1")),
    ]
    assert len({data.digest()} | {other.digest() for other in others}) == 5


def test_a_subset_gives_its_images_on_demand(original):
    data = imagenet.load("test", original)
    images, labels = everything(data)
    rows = subsets.stratified(labels, 5, seed=1)
    subset = data.subset(5, seed=1)
    assert subset.images.shape == (5, 224, 224, 3) and subset.images.dtype == np.float32
    np.testing.assert_array_equal(subset.images[np.arange(1, 4)], images[rows[1:4]])
    np.testing.assert_array_equal(np.asarray(subset.labels), labels[rows])
    np.testing.assert_array_equal(np.asarray(subset.first(2).labels), labels[rows[:2]])
    digests = {one.digest() for one in (data, subset, subset.first(2), data.subset(5, seed=2))}
    assert len(digests) == 4


# Labels


def test_an_offset_that_leaves_the_classes_is_refused_with_the_record(tree, original, tmp_path):
    data = imagenet.load("test", original, label_offset=1)
    with pytest.raises(DataError, match=r"label 0 less the offset 1 .*--val_label_offset=0"):
        everything(data)
    # The trap: the converter's validation files read as if they were the authors' own.
    converter = run(tree, tmp_path, "--split=val", "--naming=converter")
    data = imagenet.load("test", converter, label_offset=0)
    with pytest.raises(
        DataError, match=r"record \d of .*validation-.*label 1000 less the offset 0"
    ):
        everything(data)


# Damage


def test_missing_files_are_named_or_allowed(copy, caplog):
    os.remove(str(copy / "Val" / "Val-00001-of-00003"))
    with pytest.raises(DataError, match="1 of 3 files are missing, the first is Val-00001-of-0000"):
        imagenet.load("test", str(copy))
    data = imagenet.load("test", str(copy), allow_missing_shards=True)
    assert 0 < len(data.labels) < 12
    assert "Val-00001-of-00003" in caplog.text


def test_files_of_two_conversions_are_refused(copy):
    shutil.copy(str(copy / "Val" / "Val-00000-of-00003"), str(copy / "Val" / "Val-00000-of-00002"))
    with pytest.raises(DataError, match="holds several sets of files"):
        imagenet.load("test", str(copy))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"abc",
        lambda data: b"<html>404 Not Found</html>",
    ],
    ids=["last byte", "half", "longer", "a web page"],
)
def test_a_damaged_file_is_named(copy, damage):
    path = copy / "Val" / "Val-00002-of-00003"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="Val-00002-of-00003 is truncated or no TFRecord file"):
        imagenet.load("test", str(copy))


@pytest.mark.parametrize(
    "example, says",
    [
        (b"no protocol buffer", "is no ImageNet example"),
        (features(image__encoded=b"jpeg"), "image/class/label"),
        (features(image__class__label=1), "image/encoded"),
        (features(image__encoded=b"no jpeg", image__class__label=1), "cannot be decoded"),
    ],
    ids=["text", "no label", "no image", "no jpeg"],  # the bytes' order differs between processes
)
def test_a_record_that_is_no_image_is_named(tmp_path, example, says):
    write_records(tmp_path / "Val-00000-of-00001", example)
    data = imagenet.load("test", str(tmp_path))
    with pytest.raises(DataError, match="record 0 of .*Val-00000-of-00001") as error:
        everything(data)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_folder_without_tfrecords_is_named(tmp_path):
    with pytest.raises(DataError, match="neither Val/Val-00000-of-00128 nor validation/valid"):
        imagenet.load("test", str(tmp_path))
    with pytest.raises(DataError, match="--imagenet_path=.*missing is not a folder"):
        imagenet.load("test", str(tmp_path / "missing"))
    with pytest.raises(DataError, match="pass --imagenet_path=FOLDER"):
        imagenet.load("test")
    with pytest.raises(DataError, match="'validation': choose from train, test"):
        imagenet.load("validation", str(tmp_path))


# Conversion


def test_the_synsets_are_the_thousand_in_order():
    assert len(set(SYNSETS)) == 1000 and SYNSETS == sorted(SYNSETS)
    assert (SYNSETS[0], SYNSETS[-1]) == ("n01440764", "n15075141")


@needs_imagenet
def test_the_synsets_are_those_of_the_real_images():
    assert sorted(os.listdir(IMAGENET)) == SYNSETS


def test_a_killed_conversion_continues_to_the_same_files(tree, original, tmp_path, monkeypatch):
    writer, opened = tf.io.TFRecordWriter, []

    def killed(path):
        if len(opened) == 2:
            raise KeyboardInterrupt
        opened.append(path)
        return writer(path)

    with monkeypatch.context() as patch:
        patch.setattr(tf.io, "TFRecordWriter", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tree, tmp_path)
    written = sorted(str(path) for path in (tmp_path / "Val").iterdir())
    assert len(written) == 2
    with pytest.raises(ResumeError, match="another conversion"):
        run(tree, tmp_path, "--split=val", "--seed=1")
    before = os.path.getmtime(written[0])
    run(tree, tmp_path)
    assert os.path.getmtime(written[0]) == before
    for name in ["Val-problems.txt"] + [
        os.path.join("Val", n) for n in os.listdir(original + "/Val")
    ]:
        with open(os.path.join(original, name), "rb") as first:
            assert first.read() == (tmp_path / name).read_bytes(), name
    with pytest.raises(DataError, match="Val exists and holds"):
        run(tree, tmp_path)


def test_images_are_converted_a_few_at_a_time_to_the_same_files(
    tree, original, tmp_path, monkeypatch
):
    monkeypatch.setattr(convert, "AT_ONCE", 2)
    run(tree, tmp_path)
    for name in os.listdir(os.path.join(original, "Val")):
        with open(os.path.join(original, "Val", name), "rb") as file:
            assert file.read() == (tmp_path / "Val" / name).read_bytes()


def flat(tree, folder):
    """The tree's images in one folder, and their synsets in the order of the names."""
    os.makedirs(str(folder))
    synsets = []
    for synset in (SYNSETS[500], SYNSETS[0]):
        for number in range(3):
            name = "ILSVRC2012_val_%08d.JPEG" % (len(synsets) + 1)
            shutil.copy(os.path.join(tree, synset, "%d.JPEG" % number), str(folder / name))
            synsets.append(synset)
    return synsets


@pytest.mark.parametrize("named", [False, True])
def test_a_flat_folder_keeps_its_order(tree, tmp_path, named):
    synsets = flat(tree, tmp_path / "flat")
    lines = list(synsets)
    if named:
        names = sorted(os.listdir(str(tmp_path / "flat")))
        lines = ["%s,%s" % pair for pair in reversed(list(zip(names, synsets)))]
    (tmp_path / "labels.txt").write_text("\n".join(lines) + "\n")
    run(
        str(tmp_path / "flat"), tmp_path / "out", "--split=val", "--labels=%s/labels.txt" % tmp_path
    )
    _, labels = everything(imagenet.load("test", str(tmp_path / "out")))
    assert list(labels) == [SYNSETS.index(synset) for synset in synsets]


@pytest.mark.parametrize(
    "lines, says",
    [
        (["n01440764"] * 5, "has 5 lines, but .* has 6 images"),
        (["490"] * 6, "'490' of ILSVRC2012_val_00000001.JPEG is no synset .*like n01440764"),
        (["a.JPEG n01440764"] * 6, "has no line for ILSVRC2012_val_00000001.JPEG"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tree, tmp_path, lines, says):
    flat(tree, tmp_path / "flat")
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    with pytest.raises(DataError, match=says):
        convert.find_sources(str(tmp_path / "flat"), str(tmp_path / "labels.txt"))


@pytest.mark.parametrize(
    "line, says",
    [
        ([], "usage: .* convert"),
        (["convert"], "required"),
        (["convert", "--source=a", "--split=test", "--out=b"], "invalid choice: 'test'"),
        (["convert", "--source=a", "--split=val", "--out=b", "--shards=0"], "--shards=0"),
        (["convert", "--source=missing", "--split=val", "--out=b"], "missing is not a folder"),
    ],
)
def test_bad_commands_are_errors(line, says):
    with pytest.raises(EmpirError, match=says):
        convert.main(line)


def test_folders_that_are_no_synsets_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no folders of images"):
        convert.find_sources(str(tmp_path))
    (tmp_path / "cats").mkdir()
    with pytest.raises(DataError, match="cats is no synset"):
        convert.find_sources(str(tmp_path))


# Training images


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (64, 64), (300, 1000), (1000, 30)])
def test_crops_have_the_areas_and_aspects_of_the_original(random, size):
    height, width = size
    windows = np.array([distortion.draw(random, height, width).window for _ in range(500)])
    top, left, rows, columns = windows.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + rows <= height).all() and (left + columns <= width).all()
    whole = (rows == height) & (columns == width)
    area, aspect = rows * columns / (height * width), columns / rows
    assert (area[~whole] >= 0.1).all() and (area <= 1).all()
    # Sizes are rounded to pixels.
    assert (aspect[~whole] > 0.75 - 1 / rows[~whole]).all()
    assert (aspect[~whole] < 1.33 + 1 / rows[~whole]).all()
    if max(size) < 2 * min(size):
        assert whole.mean() < 0.05 and area.min() < 0.2 and area.max() > 0.7
        assert aspect[~whole].min() < 0.8 and aspect[~whole].max() > 1.25
    if size == (1000, 30):
        assert whole.all()  # no crop of that shape covers a tenth of it


@pytest.mark.slow
def test_crops_are_distributed_as_tensorflows(random, session):
    box = tf.image.sample_distorted_bounding_box(
        [375, 500, 3],
        [[[0.0, 0.0, 1.0, 1.0]]],
        seed=1,
        min_object_covered=0.1,
        aspect_ratio_range=(0.75, 1.33),
        area_range=(0.05, 1.0),
        max_attempts=100,
    )
    theirs = np.array([session.run(box[1])[:2] for _ in range(2000)])
    ours = np.array([distortion.draw(random, 375, 500).window[2:] for _ in range(2000)])
    # Means of 2,000 heights and widths: standard errors are below 2.5 pixels.
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=10)
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), rtol=0.08)


def test_flips_and_light_differ_from_image_to_image(random):
    drawn = [distortion.draw(random, 300, 300) for _ in range(400)]
    assert 0.4 < np.mean([d.flip for d in drawn]) < 0.6
    light = np.array([d.light for d in drawn])
    covariance = distortion.EIGENVECTORS * (0.1 * distortion.EIGENVALUES) ** 2
    np.testing.assert_allclose(
        np.cov(light.T), covariance @ distortion.EIGENVECTORS.T, atol=0.25 * light.var()
    )


def test_a_distorted_image_is_the_crop_flipped_and_lit(tree):
    with open(os.path.join(tree, SYNSETS[500], "0.JPEG"), "rb") as file:
        encoded = file.read()
    random = np.random.RandomState(3)
    image = imagenet.Distorter()(encoded, np.random.RandomState(3))
    assert image.shape == (224, 224, 3) and image.dtype == np.float32
    with tf.Graph().as_default(), tf.Session() as session:
        whole = session.run(tf.image.decode_jpeg(encoded, channels=3)).astype(np.float32)
        drawn = distortion.draw(random, *whole.shape[:2])
        top, left, rows, columns = drawn.window
        crop = whole[top : top + rows, left : left + columns]
        expected = session.run(tf.image.resize_bilinear(crop[np.newaxis], [224, 224]))[0]
    expected = expected[:, ::-1] if drawn.flip else expected
    expected = imagenet.normalize(expected + drawn.light)
    # Decoding a part of a JPEG smooths its colours otherwise along the crop's edge.
    assert np.mean(np.abs(image - expected) < 1e-4) > 0.98
    assert np.abs(image - expected).max() < 0.3


def test_an_epoch_is_a_function_of_seed_and_epoch(tree, tmp_path):
    data = imagenet.load("train", run(tree, tmp_path, "--split=train"))
    order = data.order(1, 0)
    assert sorted(order) == list(range(12))
    assert list(order) == list(data.order(1, 0)) and list(order) != list(data.order(1, 1))
    batches = [order[:5], order[5:10], order[7:12]]

    def epoch(batches, seed=1, epoch=0):
        return [(images, list(labels)) for images, labels in data.stream(batches, seed, epoch)]

    first = epoch(batches)
    _, labels = everything(data)
    for rows, (images, found) in zip(batches, first):
        assert images.shape == (5, 224, 224, 3) and found == [labels[row] for row in rows]
    # The rest of an epoch, as after a kill; another epoch; another seed.
    np.testing.assert_array_equal(epoch(batches[1:])[0][0], first[1][0])
    np.testing.assert_array_equal(first[1][0][2:], first[2][0][:3])
    for other in (epoch(batches, epoch=1), epoch(batches, seed=2)):
        assert (other[0][0] != first[0][0]).any(axis=(1, 2, 3)).all()


def test_shuffling_reads_files_in_groups(tree, tmp_path):
    out = run(tree, tmp_path, "--split=val", "--shards=6")
    paths = tfrecords.find_shards(out, "test").paths
    records, sizes = tfrecords.Records(paths), [len(tfrecords.Records([path])) for path in paths]
    file_of = np.repeat(np.arange(6), sizes)
    order = records.shuffled(np.random.RandomState(0), 4)
    assert sorted(order) == list(range(12))
    # A group is complete with the file that makes it at least 4 records.
    for file in range(6):
        positions = np.flatnonzero(file_of[order] == file)
        assert np.ptp(positions) < 4 + max(sizes)
