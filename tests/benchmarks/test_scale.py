"""The images that are repeated for an attack on many, and the table of its time and memory."""

import json

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.pages import scale as report
from benchmarks.pages.inference import MISSING
from tests.support.scripts import assert_refused, run_module


def test_images_are_repeated_with_noise_until_there_are_enough(random):
    images = random.uniform(size=(4, 2, 2, 1)).astype("f4")
    made = scale.repeated(images, np.arange(4), 10)
    bytes_of, labels = made["images"], made["labels"]
    assert bytes_of.shape == (10, 2, 2, 1) and bytes_of.dtype == np.uint8
    assert labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    np.testing.assert_array_equal(bytes_of[:4], np.round(255 * images))
    change = bytes_of.astype(int) - bytes_of[labels]
    assert 0 < np.abs(change[4:]).max() <= scale.NOISE
    np.testing.assert_array_equal(scale.repeated(images, np.arange(4), 2)["images"], bytes_of[:2])


def test_the_table_is_of_the_record_or_says_that_there_is_none(tmp_path):
    assert report.markdown(str(tmp_path / "mnist"), None) == MISSING
    run = dict(images=1000, wall=6.0, peak_memory_mb=403.0, images_mb=3.0)
    run["seconds"] = {"clean": 0.5, "attack": 1.0, "total": 2.0}
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "scale.json").write_text(json.dumps({"runs": [run]}))
    table = report.markdown(str(tmp_path / "mnist"), None)
    assert table.splitlines()[-1] == "| 1,000 | 1.50 | 6.00 | 403 | 400 |"


@pytest.mark.slow
def test_bad_input_is_one_line_before_anything_is_measured():
    assert_refused(run_module("benchmarks.scale", "--images=100,many"), "--images=100,many")
