"""Tables of what attacks' speed was measured as."""

import json
import os

from benchmarks.pages import speed
from empir.experiments import EXPERIMENTS
from tests.support.kept import cells


def test_the_speed_table_has_what_was_measured(tmp_path):
    os.makedirs(str(tmp_path / "benchmark"))
    measured = dict(batch_size=100, images_per_second=6.25, gflops=150.4, gemm_gflops=75.6)
    with open(str(tmp_path / "benchmark" / "imagenet-fgsm.json"), "w") as file:
        json.dump(dict(measured, peak_memory_mb=7000.4), file)
    rows = cells(speed.throughput_markdown(str(tmp_path / "imagenet"), EXPERIMENTS["imagenet"]))
    assert rows[2:] == [["FGSM", "100", "6.25", "2.7", "150", "76", "7000"]]
    assert {len(row) for row in rows} == {7}
