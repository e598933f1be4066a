"""CIFAR-10's images as JPEGs: their classes and sizes, through ImageNet's pipeline to a record."""

import importlib
import json
import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from benchmarks.study import plan, run
from empir import data
from empir.commands import commandline
from empir.data import convert, imagenet
from empir.experiments import experiment
from empir.records import runs
from tests.support import CIFAR10, ROOT, needs_cifar10
from tests.support.in_process import run_here

LABELS = np.array([3, 0, 3, 9])


@pytest.fixture(scope="module")
def pictures():
    """The module, whose dataset is in the package's table meanwhile."""
    before = dict(data.DATASETS)
    yield importlib.import_module("benchmarks.study.pictures")
    data.DATASETS.clear()
    data.DATASETS.update(before)


@pytest.fixture(scope="module")
def images():
    """Four smooth images in CIFAR-10's form."""
    small = np.random.RandomState(0).randint(0, 256, (4, 4, 4, 3)).astype(np.uint8)
    pixels = [np.asarray(Image.fromarray(one).resize((32, 32), Image.BILINEAR)) for one in small]
    return data.from_bytes("cifar10", "test", np.array(pixels), LABELS, "memory")


@pytest.fixture(scope="module")
def records(pictures, images, tmp_path_factory):
    """The folder of TFRecords of these images, as both splits."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures.write(images, str(folder / "jpeg"), progress=False)
    sources = convert.find_sources(str(folder / "jpeg"))
    for split in run.SPLITS:
        convert.convert(sources, str(folder / "records"), split, "original", 1, progress=False)
    return str(folder / "records")


def test_every_class_is_one_of_imagenets(pictures):
    known = imagenet.synsets()
    assert len({known.index(synset) for synset, _ in pictures.SYNSETS}) == 10


def test_rates_change_at_the_same_shares_of_the_epochs_as_on_imagenet(pictures):
    assert plan.EPOCHS[plan.PICTURES] == 12  # of 90
    schedule = experiment(plan.PICTURES).schedule
    assert schedule(0.001, quantized=True) == ((8, 4e-5), (10, 8e-6))
    rates = dict(schedule(0.001, quantized=False))
    assert list(rates) == [4, 8, 11] and np.allclose(list(rates.values()), [1e-4, 1e-5, 1e-6])


def test_a_test_image_is_the_centre_of_its_picture_enlarged(pictures, images, records):
    loaded = pictures.load("test", records)
    assert loaded.name == plan.PICTURES and loaded.channels == "BGR"
    synsets = [imagenet.synsets()[label] for label in loaded.labels]
    assert sorted(synsets) == sorted(pictures.SYNSETS[label][0] for label in LABELS)
    row = list(synsets).index(pictures.SYNSETS[9][0])
    pixels = np.rint(255 * images.images[3]).astype(np.uint8)
    large = np.asarray(Image.fromarray(pixels).resize((256, 256), Image.BICUBIC), np.float32)
    expected = imagenet.normalize(large[16:240, 16:240])
    grey_level = 1 / imagenet.DEVIATION.min()
    assert np.abs(loaded.images[row] - expected).mean() < 2 * grey_level


@pytest.mark.slow
def test_a_network_learns_from_pictures_and_is_attacked(empir_command, records, tmp_path):
    (tmp_path / "member").mkdir()
    line = f"attack --dataset={plan.PICTURES_FLAG} --data_dir={records} --nb_filters=2 "
    line += "--nb_samples=2 --subset=stratified --attack=fgsm --batch_size=4 --nb_epochs=1 "
    line += f"--model_path={tmp_path}/member --out={tmp_path}/out --noprogress"
    process = empir_command(line)
    assert process.returncode == 0, process.stderr
    training = json.loads((tmp_path / "member" / "training.json").read_text())
    assert [epoch for epoch, _ in training["schedule"]] == [4, 8, 11]
    assert (training["network"], training["adam_epsilon"]) == ("AlexNet", 1e-5)
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (record["dataset"], record["num_examples"]) == (plan.PICTURES, 2)
    assert (record["attack"]["eps"], record["attack"]["clip_max"]) == (0.1, 2.7)


@needs_cifar10
@pytest.mark.slow
def test_pictures_of_another_number_of_images_are_refused(pictures, tmp_path, capfd):
    def written(count):
        words = [f"--data_dir={CIFAR10}", f"--out={tmp_path}", "--test_images=3", "--noprogress"]
        words.append(f"--train_images={count}")
        return run_here(lambda: commandline.run_main(pictures.setup, ["pictures", *words]), capfd)

    assert written(2).returncode == 0
    for name, count in (("train", 2), ("val", 3)):
        assert len(list((tmp_path / name).glob("*/*.JPEG"))) == count
    refused = written(1)
    assert refused.returncode == 2 and "is the state of another set of pictures" in refused.stderr


def test_the_study_makes_pictures_once(tmp_path, monkeypatch, capfd):
    """The commands of a training and an evaluation; what they would write is written for them."""
    called = []

    def call(command, **_):
        words = dict(word[2:].partition("=")[::2] for word in command if word.startswith("--"))
        name = command[2] if command[2] != "empir" else command[3]
        called.append(name)
        if name == "convert":
            made = {"train": "Train", "val": "Val"}[words["split"]]
            runs.make_folder(os.path.join(words["out"], made))
        elif name == "train":
            runs.write_json(os.path.join(words["model_path"], "training.json"), {"sha256": "a"})
        elif name == "attack":
            runs.write_json(os.path.join(words["out"], "result.json"), {"sha256": "b"})
            runs.write_atomically(os.path.join(words["out"], "images.npz"), b"")
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.chdir(ROOT)
    for attack in ("fgsm", "pgd"):
        words = [f"--runs={tmp_path}/runs", f"--results={tmp_path}/results", "--part=alexnet"]
        words.append(f"--only=*-model3-fp-{attack}-*")
        result = run_here(lambda: commandline.run_main(run.setup, ["study", *words]), capfd)
        assert result.returncode == 0, result.stderr
    made = ["benchmarks.study.pictures", "convert", "convert"]
    assert called == [*made, "train", "attack", "train", "attack"]  # no weights are there
    kept = sorted(os.listdir(str(tmp_path / "results" / "alexnet")))
    name = f"{plan.PICTURES}-model3-fp-%s-whitebox.%s"
    assert kept == [name % (a, kind) for a in ("fgsm", "pgd") for kind in ("json", "npz")]
