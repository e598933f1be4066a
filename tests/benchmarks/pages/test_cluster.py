"""The model of several workers' time: too few chunks for all, and one process for all chunks."""

import json
import shutil

import pytest

from benchmarks.pages import cluster
from empir.experiments import EXPERIMENTS

RECORD = {
    "process": {"rate": 20.0, "startup": 3.0},
    "workers": {"rate": 19.0, "startup": 9.0},
    "overhead": 0.005,
    "many": {"workers": 512, "overhead": 0.01},
}


@pytest.mark.parametrize(
    "seconds, batch, workers, expected",
    [
        (5.0, 100, 1, 9 + 50000 * 5),
        (5.0, 100, 8, 9 + 63 * 500),  # 500 chunks: the last round keeps four workers busy
        (5.0, 100, 512, 9 + 500),  # twelve workers have nothing to do
        (5.0, 20, 512, 9 + 5 * 100),
        (0.001, 20, 512, 9 + 2500 * 0.01),  # chunks are handed out more slowly than computed
    ],
)
def test_the_predicted_seconds(seconds, batch, workers, expected):
    assert cluster.prediction(RECORD, seconds, batch, workers) == pytest.approx(expected)


def test_tables_are_of_the_records_or_say_that_there_are_none(tmp_path):
    experiment, folder = EXPERIMENTS["imagenet"], tmp_path / "imagenet"
    assert cluster.measured(str(folder), experiment) == cluster.NONE
    assert cluster.predicted(str(folder), experiment) == cluster.NONE
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "cluster.json").write_text(json.dumps(RECORD))
    shutil.copy("results/benchmark/imagenet-pgd.json", str(tmp_path / "benchmark"))
    assert "| the same with 512 workers | - | 10.0 |" in cluster.measured(str(folder), experiment)
    rows = cluster.predicted(str(folder), experiment).splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["1", "8", "64", "512"]
    assert "67.10" in rows[2]
