"""A conversion of images to TFRecords that is killed at any point, or that is not the only one."""

import os

import numpy as np
import pytest

from empir.data import convert
from empir.errors import DataError, ResumeError
from empir.records import locks
from tests.support.kills import killed_runs
from tests.support.records import SYNSETS, encode


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three images of two synsets: one a PNG, one that cannot be decoded."""
    folder = tmp_path_factory.mktemp("tree")
    image = np.random.RandomState(0).randint(0, 256, (9, 9, 3)).astype(np.uint8)
    contents = [encode(image, "jpeg"), encode(image, "png"), b"\xff\xd8\xff\xe0 no picture"]
    for synset, name, content in zip(SYNSETS[:1] * 2 + SYNSETS[1:2], "abc", contents):
        (folder / synset).mkdir(exist_ok=True)
        (folder / synset / (name + ".JPEG")).write_bytes(content)
    return str(folder)


def run(tree, out, seed=0):
    """Convert the images to two files."""
    sources = convert.find_sources(tree, seed=seed)
    convert.convert(sources, str(out), "val", "original", 2, progress=False)


def content(folder):
    """Bytes of every file below a folder, hidden ones too; None for an empty folder."""
    found = {}
    for path, folders, names in os.walk(str(folder)):
        place = os.path.relpath(path, str(folder))
        if not folders and not names:
            found[place] = None
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                found[os.path.join(place, name)] = file.read()
    return found


@pytest.mark.slow
def test_a_conversion_that_is_killed_anywhere_goes_on_to_the_same_files(
    tree, tmp_path, monkeypatch
):
    run(tree, tmp_path / "whole")
    expected, points = content(tmp_path / "whole"), 0
    assert sorted(os.path.basename(name) for name in expected) == [
        "Val-00000-of-00002",
        "Val-00001-of-00002",
        "Val-problems.txt",
    ]
    ended = []
    for number in killed_runs(monkeypatch, lambda number: run(tree, tmp_path / str(number))):
        points += 1
        # It may have ended, with nothing left to delete but the lock.
        if content(tmp_path / str(number)) == expected:
            ended.append(number)
            continue
        run(tree, tmp_path / str(number))
        assert content(tmp_path / str(number)) == expected, number
    # Four folders or so and run.json; per file problems and records; the report; the state's new
    # name, its three files and its folder.
    assert points >= 12 and len(ended) <= 1


def test_what_a_finished_conversion_left_is_of_this_one(tree, tmp_path, monkeypatch):
    """Killed while it deletes its state, and started again with another order of the images."""

    def stop(path, *arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rmdir", stop)
        patch.setattr(os, "remove", stop)
        run(tree, tmp_path)
    with pytest.raises(ResumeError, match="another conversion"):
        run(tree, tmp_path, seed=1)
    run(tree, tmp_path)
    with pytest.raises(DataError, match="holds a conversion"):
        run(tree, tmp_path)


def test_a_second_conversion_to_the_folder_is_refused(tree, tmp_path):
    with locks.lock(str(tmp_path / "converting-Val")):
        with pytest.raises(ResumeError, match="in use by another run"):
            run(tree, tmp_path)
    run(tree, tmp_path)
