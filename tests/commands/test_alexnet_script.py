"""The ImageNet script on small TFRecords and a narrow AlexNet: commands, records, training."""

import json
import os
import re

import numpy as np
import pytest

from empir.data import convert, imagenet
from empir.experiments import experiment
from empir.models import checkpoints
from empir.runtime import tf
from tests.support.made_once import made_once
from tests.support.pinned import assert_pinned
from tests.support.released import save_members
from tests.support.scripts import assert_refused, readme_record

#: Two of its layers have 4,096 units at any width.
pytestmark = pytest.mark.slow

WIDTH = 2
COUNT = 12


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with TFRecords of 12 images (val and train) and members."""
    return made_once(tmp_path_factory, "alexnet", fill)


def fill(folder):
    """Write the files of `workspace`."""
    random = np.random.RandomState(0)
    synsets = imagenet.synsets()
    with tf.Graph().as_default(), tf.Session() as session:
        pixels = tf.placeholder(tf.uint8, [None, None, 3])
        encoded = tf.image.encode_jpeg(pixels)
        for number in range(COUNT):
            small = random.randint(0, 256, (10, 12, 3)).astype(np.uint8)
            data = session.run(encoded, {pixels: small.repeat(26, 0).repeat(26, 1)})
            path = folder / "tree" / synsets[90 * number]
            path.mkdir(parents=True)
            (path / "image.JPEG").write_bytes(data)
    sources = convert.find_sources(str(folder / "tree"))
    for split in ("val", "train"):
        convert.convert(sources, str(folder / "tfrecords"), split, "original", 2, progress=False)
    save_members(str(folder), "AlexNet", WIDTH)


@pytest.fixture
def script(run_example):
    """Run the ImageNet script in this process: (command line, folder) -> as of a process."""
    return lambda line, folder: run_example("imagenet", line, folder)


#: The two commands of the original's README, with short paths and small batches.
README = {
    "ensemble": "--batch_size=5 --imagenet_path=tfrecords --ensembleThree --abits=2 --wbits=2 "
    "--abits2=4 --wbits2=4 --model_path1=model1 --model_path2=model2 --model_path3=model3",
    "baseline": "--batch_size=5 --imagenet_path=tfrecords --model_path=model3",
}
BITS = {"ensemble": [(2, 2), (4, 4), (None, None)], "baseline": [(None, None)]}


@pytest.mark.parametrize(
    "name, more", [("ensemble", "--attack=fgsm"), ("baseline", "--train_label_offset=0")]
)
def test_the_originals_commands(script, workspace, tmp_path, name, more):
    line = f"{README[name]} {more} --nb_filters={WIDTH} --attack_iterations=2"
    process, record = readme_record(script, line, workspace, tmp_path / "out", BITS[name])
    assert "batch_size has no effect" not in process.stderr
    assert ("--train_label_offset has no effect" in process.stderr) == (name == "baseline")
    assert (record["dataset"], record["architecture"]) == ("imagenet", "AlexNet")
    assert (record["num_examples"], record["batch_size"], record["seed"]) == (COUNT, 5, 1234)
    assert record["full_batches_only"]["num_examples"] == 10
    assert (record["attack"]["clip_min"], record["attack"]["clip_max"]) == (-2.2, 2.7)
    for member in record["member_accuracy"]:
        assert 0 <= member["clean"] <= member["clean_top5"] <= 1
    with np.load(str(tmp_path / "out" / "examples.npz")) as archive:
        assert sorted(archive["label"]) == [90 * number for number in range(COUNT)]
        top5 = np.mean(archive["adversarial_rank_mean_logits"] < 5)
    assert record["accuracy"]["mean_logits"]["adversarial_top5"] == top5
    assert_pinned("alexnet_attack " + name, tmp_path / "out")
    lines = re.findall(r"^  top-5 +clean ", process.stderr, re.MULTILINE)
    assert len(lines) == (2 + len(BITS[name]) if len(BITS[name]) > 1 else 1)


BASELINE = "--model_path=model3 --nb_filters=2 --attack=fgsm "


@pytest.mark.parametrize(
    "line, says",
    [
        (BASELINE, "pass --imagenet_path=FOLDER"),
        (BASELINE + "--imagenet_path=missing", "missing is not a folder"),
        (BASELINE + "--imagenet_path=tree", "tree holds no TFRecords"),
        (BASELINE + "--imagenet_path=tfrecords --val_label_offset=1", "less the offset 1"),
        (BASELINE + "--imagenet_path=tfrecords --nb_samples=13", "nb_samples=13"),
        (
            "--lowprecision --model_path=model1 --wbitsList=2,2,2 --abitsList=2,2,2",
            "3 layer-wise precisions given, but the network quantizes 6 layers",
        ),
        ("--imagenet_path=tfrecords --model_path=model3 --nb_filters=32", "(12, 12, 3, 96)"),
    ],
)
def test_bad_input_is_one_line(script, workspace, line, says):
    assert_refused(script(line, workspace), says)


def test_a_missing_statistic_is_named(script, workspace, tmp_path):
    arrays = checkpoints.read(str(workspace / "model3"))
    del arrays["fp__batchNorm4/batch_normalization/moving_variance"]
    checkpoints.save(str(tmp_path / "member"), arrays)
    line = "--imagenet_path=tfrecords --nb_filters=2 --model_path=%s" % (tmp_path / "member")
    process = script(line, workspace)
    assert process.returncode == 2
    assert "missing fp__batchNorm4/batch_normalization/moving_variance (16)" in process.stderr


def test_a_network_is_trained(script, workspace, tmp_path):
    os.mkdir(str(tmp_path / "member"))
    line = "--train_only --model_path=%s --imagenet_path=tfrecords --nb_filters=2 " % (
        tmp_path / "member"
    )
    line += "--nb_epochs=1 --batch_size=12 --test --lowprecision --wbits=2 --abits=4 "
    process = script(line + "--adv=1 --delay=0 --nb_iter=1", workspace)
    assert process.returncode == 0, process.stderr
    with open(str(tmp_path / "member" / "training.json")) as file:
        record = json.load(file)
    assert record["network"] == "AlexNet" and len(record["history"]) == 1
    assert record["objective"]["eps"] == 0.1 and record["adam_epsilon"] == 1e-5
    assert record["schedule"] == [[60, 4e-5], [75, 8e-6]]
    arrays = checkpoints.read(str(tmp_path / "member"))
    assert (arrays["lp__batchNorm1/batch_normalization/moving_mean"] != 0).all()


def test_a_full_precision_networks_rates_are_the_originals():
    rates = experiment("imagenet").schedule(0.001, quantized=False)
    np.testing.assert_allclose(rates, [(30, 1e-4), (60, 1e-5), (80, 1e-6)])
