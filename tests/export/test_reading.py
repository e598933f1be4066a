"""Exported networks become released checkpoints again, bit by bit; bad ones are refused."""

import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy

from empir import export, front
from empir.errors import CheckpointError, EmpirError
from empir.experiments import EXPERIMENTS
from empir.export import reading, source
from empir.models import checkpoints
from tests.support.released import narrow

MEMBERS = (("w2a4/fp/w31a9", "lp"), ("fp", "fp"))
NETWORKS = {"mnist": "MNISTconv", "cifar10": "CIFARconv"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Dataset -> the folder of an export, and the weights of its members."""
    found = {}
    for dataset, network in NETWORKS.items():
        folder, texts, arrays = tmp_path_factory.mktemp(dataset), [], []
        for number, (precision, kind) in enumerate(MEMBERS):
            arrays.append(narrow(kind, 3, number, network))
            checkpoints.save(str(folder / str(number)), arrays[-1])
            texts.append(f"{precision}:{folder / str(number)}")
        ensemble = front.load_ensemble(dataset, texts)
        out = str(folder / "exported")
        export.write(source.read(ensemble, EXPERIMENTS[dataset]), "pytorch", out)
        ensemble.session.close()
        found[dataset] = (out, arrays)
    return found


@pytest.mark.parametrize("dataset", sorted(NETWORKS))
def test_a_round_trip_is_exact(exported, tmp_path, empir_command, dataset):
    folder, arrays = exported[dataset]
    done = empir_command(f"import --folder={folder} --out=back", tmp_path)
    names = ["back/model1-w2a4-fp-w31a9", "back/model2-fp"]
    texts = [f"{precision}:{name}" for (precision, _), name in zip(MEMBERS, names)]
    assert done.stdout == f"--members={','.join(texts)}\n", done.stderr
    for name, (precision, _), own in zip(names, MEMBERS, arrays):
        path = str(tmp_path / name)
        read = checkpoints.read(path)
        assert sorted(read) == sorted(own)
        for key in own:
            np.testing.assert_array_equal(read[key], own[key])
        record = checkpoints.training_record(path)
        assert checkpoints.bits(record["precisions"]) == precision
        assert record["sha256"] == checkpoints.digest(own)
    assert [entry["sha256"] for entry in config_of(folder)["members"]] == [
        checkpoints.digest(own) for own in arrays
    ]


def config_of(folder):
    """The content of config.json."""
    with open(os.path.join(str(folder), "config.json")) as file:
        return json.load(file)


def change_config(folder, change):
    """Apply a function to the content of config.json."""
    content = config_of(folder)
    change(content)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(content, file)


def change_weights(folder, change):
    """Apply a function to the arrays, and forget their digest."""
    path = os.path.join(folder, "weights.safetensors")
    arrays = safetensors.numpy.load_file(path)
    change(arrays)
    safetensors.numpy.save_file(arrays, path)
    change_config(folder, lambda content: content.pop("weights_sha256"))


def first_layer(**bits):
    """A change of the bits of the first layer."""
    return lambda content: content["members"][0]["layers"]["conv1"].update(bits)


WEIGHT = "networks.0.conv1.weight"
BAD = {
    "format": (change_config, lambda c: c.update(format=2), "config.json is not of an export"),
    "network": (change_config, lambda c: c.update(architecture="VGG"), "is not of an export"),
    "bits": (change_config, first_layer(weight_bits=0), "weight_bits=0: bit widths are 1..31"),
    "layers": (
        change_config,
        lambda c: c["members"][0]["layers"].pop("conv2"),
        "member 1: it needs nb_filters, and bits of conv1, conv2, conv3",
    ),
    "digest": (change_config, lambda c: c.update(weights_sha256="0"), "is not the file that"),
    "missing": (change_weights, lambda a: a.pop(WEIGHT), f"has no {WEIGHT}"),
    "left over": (change_weights, lambda a: a.update({"x": a[WEIGHT]}), "holds x, which no member"),
    "type": (
        change_weights,
        lambda a: a.update({WEIGHT: a[WEIGHT].astype(np.float64)}),
        "is of type float64",
    ),
    "nan": (change_weights, lambda a: a[WEIGHT].fill(np.nan), "holds NaN or infinity"),
    "shape": (change_weights, lambda a: a.update({WEIGHT: a[WEIGHT][:2]}), "expected"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_is_of_something_else_is_refused_and_nothing_is_written(exported, tmp_path, name):
    apply, change, says = BAD[name]
    folder, out = str(tmp_path / "folder"), tmp_path / "out"
    shutil.copytree(exported["mnist"][0], folder)
    apply(folder, change)
    with pytest.raises(CheckpointError) as error:
        reading.write(folder, str(out))
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not out.exists() and sorted(os.listdir(str(tmp_path))) == ["folder"]


@pytest.mark.parametrize("file", ["config.json", "weights.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_a_file_that_is_missing_or_damaged_is_named(exported, tmp_path, file, content):
    folder = tmp_path / "folder"
    shutil.copytree(exported["mnist"][0], str(folder))
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=file):
        reading.read(str(folder))


def test_a_network_that_draws_at_random_is_not_exported(tmp_path):
    checkpoints.save(str(tmp_path / "member"), narrow("lp", 3))
    texts = [f"w2a4:{tmp_path / 'member'}"]
    ensemble = front.load_ensemble("mnist", texts, stochastic_rounding=True)
    with pytest.raises(EmpirError, match="draws at random .* cannot be exported"):
        source.read(ensemble, EXPERIMENTS["mnist"])
    ensemble.session.close()
