"""How an attack's time and memory depend on the number of images, as Markdown.

The record is that of `python -m benchmarks.scale`.
"""

from benchmarks.pages import records
from benchmarks.pages.inference import MISSING
from benchmarks.pages.shapes import SCALE
from empir.report.tables import pipe_table


def markdown(folder: str, _) -> str:
    """`table` of the record beside a dataset's folder of results."""
    record = records.read(folder, "benchmark/scale.json", SCALE)
    return MISSING if record is None else table(record)


def table(record: dict) -> str:
    """Milliseconds per image and peak memory by the number of images."""
    rows = [["images", "clean and attack, ms per image", "whole process, ms per image"]]
    rows[0] += ["peak memory, MB", "without the images, MB"]
    for run in record["runs"]:
        seconds, images = run["seconds"], run["images"]
        computed = seconds["clean"] + seconds["attack"]
        cells = [f"{1e3 * spent / images:.2f}" for spent in (computed, run["wall"])]
        peak = run["peak_memory_mb"]
        cells += [f"{peak:.0f}", f"{peak - run['images_mb']:.0f}"]
        rows.append([f"{images:,}", *cells])
    return pipe_table(rows)
