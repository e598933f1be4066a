"""`empir checkpoints`: what it says of checkpoints, and the manifest of the shipped ones."""

import json
import os

import numpy as np
import pytest

from empir import published
from empir.commands import checkpoints as command
from empir.errors import CheckpointError, EmpirError
from empir.models import checkpoints
from tests.support import ROOT
from tests.support.released import LAYERS, MIXED, narrow, save_trained

DATA = "model.data-00000-of-00001"


@pytest.fixture
def saved(tmp_path):
    """Folder of a narrow full-precision checkpoint."""
    path = str(tmp_path / "member")
    checkpoints.save(path, narrow("fp"))
    return path


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    """A manifest that lists the narrow full-precision weights."""
    entry = {"path": "checkpoints/mnist/narrow", "sha256": checkpoints.digest(narrow("fp"))}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"members": [entry], "released": []}))
    monkeypatch.setattr(published, "MANIFEST", str(path))


def test_verify_says_what_a_checkpoint_is(saved, tmp_path, manifest, capsys):
    other = str(tmp_path / "other")
    checkpoints.save(other, narrow("lp"))
    assert command.main(["verify", saved, other]) == 0
    first, second = capsys.readouterr().out.splitlines()
    count = 8 * 8 * 4 + 6 * 6 * 4 * 8 + 5 * 5 * 8 * 8 + 8 * 10
    assert first == "%s: full-precision MNISTconv, fp, 4 filters, %d weights, sha256 %s, %s" % (
        saved,
        count,
        checkpoints.digest(narrow("fp")),
        "checkpoints/mnist/narrow of empir/published/manifest.json",
    )
    assert (
        second
        == "%s: low-precision MNISTconv, bits not known, 4 filters, %d weights, sha256 %s, %s"
        % (
            other,
            count,
            checkpoints.digest(narrow("lp")),
            "not one of empir/published/manifest.json",
        )
    )


def test_verify_says_the_bits_that_training_json_says(tmp_path, manifest, capsys):
    for name, precisions, says in (("one", ["w2a4"] * 3, "w2a4"), ("per layer", LAYERS, MIXED)):
        folder = save_trained(str(tmp_path / name), narrow("lp"), precisions)
        assert command.main(["verify", folder]) == 0
        assert "MNISTconv, %s, 4 filters, " % says in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"members": 3}', '{"members": [{"path": "x"}]}', "\xff"]
)
def test_a_damaged_manifest_is_named(saved, tmp_path, monkeypatch, capsys, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content.encode("latin1"))
    monkeypatch.setattr(published, "MANIFEST", str(path))
    assert command.main(["verify", saved]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and str(path) in err and "install" in err


def test_a_member_that_is_not_the_manifests_is_an_error(tmp_path, monkeypatch, manifest, capsys):
    folder = str(tmp_path / "checkpoints" / "mnist" / "narrow")
    checkpoints.save(folder, narrow("fp", seed=1))
    monkeypatch.setattr(command, "ROOT", str(tmp_path))
    assert command.main(["verify", folder]) == 2
    err = capsys.readouterr().err
    assert checkpoints.digest(narrow("fp")) in err and err.count("\n") == 1


def test_verify_works_without_a_manifest(saved, monkeypatch, tmp_path):
    monkeypatch.setattr(published, "MANIFEST", str(tmp_path / "missing.json"))
    assert command.describe(saved).endswith("not one of empir/published/manifest.json")


def test_verify_tells_the_bad_ones_and_goes_on(saved, tmp_path, manifest, capsys):
    unknown = str(tmp_path / "unknown")
    checkpoints.save(unknown, {"dense/kernel": np.zeros((784, 10), np.float32)})
    missing = str(tmp_path / "missing")
    assert command.main(["verify", unknown, missing, saved]) == 2
    out, err = capsys.readouterr()
    assert out.startswith(saved) and out.count("\n") == 1
    first, second = err.splitlines()
    assert first.startswith("error: ") and "dense/kernel (784, 10)" in first
    assert second.startswith("error: ") and missing in second


@pytest.mark.parametrize("arguments", [[], ["verify"], ["check", "x"]])
def test_other_arguments_are_an_error_that_shows_the_usage(arguments):
    with pytest.raises(EmpirError, match="usage: .* verify PATH"):
        command.main(arguments)


def test_the_manifest_lists_our_members_and_the_authors_nine():
    manifest = published.manifest()
    assert manifest["members"]
    for entry in manifest["members"]:
        arrays = checkpoints.read(os.path.join(ROOT, entry["path"]))
        assert checkpoints.digest(arrays) == entry["sha256"], entry["path"]
    released = manifest["released"]["checkpoints"]
    assert len({entry["link"] for entry in released}) == len(released) == 9
    for entry in released:
        assert entry["link"].startswith("https://") and entry["use"]


@pytest.mark.parametrize("seed, listed", [(0, True), (1, False)])
def test_the_manifest_is_made_of_what_training_wrote(tmp_path, monkeypatch, seed, listed):
    folder = tmp_path / "checkpoints" / "mnist" / "narrow"
    checkpoints.save(str(folder), narrow("fp", seed=seed))
    training = dict(network="MNISTconv", precisions=["fp"] * 3, clean_accuracy=0.9, seed=3)
    training.update(command="python", sha256=checkpoints.digest(narrow("fp")))
    (folder / "training.json").write_text(json.dumps(training))
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"members": [], "released": "kept"}))
    monkeypatch.setattr(command, "ROOT", str(tmp_path))
    monkeypatch.setattr(published, "MANIFEST", str(path))
    if not listed:
        with pytest.raises(CheckpointError, match="training.json is not of the weights beside it"):
            command.main(["manifest"])
        return
    assert command.main(["manifest"]) == 0
    manifest = published.manifest()
    assert manifest["released"] == "kept"
    (entry,) = manifest["members"]
    assert entry["path"] == os.path.join("checkpoints", "mnist", "narrow")
    assert (entry["sha256"], entry["precision"]) == (training["sha256"], "fp")
    assert sorted(entry["files"]) == [DATA, "model.index", "model.meta"]
