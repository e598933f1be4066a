"""What workers gain (`python -m benchmarks.cluster`), measured and predicted, as Markdown."""

import math

from benchmarks.pages import records
from benchmarks.pages.shapes import CLUSTER, THROUGHPUT
from empir.report.tables import pipe_table

#: The attack that is predicted: images, images of a chunk, numbers of workers.
IMAGES, BATCHES, WORKERS = 50000, (100, 20), (1, 8, 64, 512)

NONE = "There is no record of this measurement."


def measured(folder: str, _) -> str:
    """Seconds and rates of one process beside two workers, and what a chunk costs besides."""
    record = _record(folder)
    if record is None:
        return NONE
    one, two = record["process"], record["workers"]
    rows = [["", "one process", "two workers"]]
    rows.append(["images per second, once all runs", *(f"{r['rate']:.1f}" for r in (one, two))])
    rows.append(["seconds before that", *(f"{r['startup']:.1f}" for r in (one, two))])
    overhead = ["-", f"{1000 * record['overhead']:.1f}"]
    rows.append(["milliseconds per chunk besides its computation", *overhead])
    many = record["many"]
    rows.append([f"the same with {many['workers']} workers", "-", f"{1000 * many['overhead']:.1f}"])
    return pipe_table(rows)


def predicted(folder: str, experiment) -> str:
    """Hours of PGD on all of ImageNet's validation images, by the number of workers."""
    record = _record(folder)
    alone = records.read(folder, f"benchmark/{experiment.dataset}-pgd.json", THROUGHPUT)
    if record is None or alone is None:
        return NONE
    seconds = 1 / alone["images_per_second"]
    rows = [["workers"] + [f"hours, {batch} images a chunk" for batch in BATCHES]]
    rows[0] += [f"share of the workers' time, {batch} a chunk" for batch in BATCHES]
    for workers in WORKERS:
        found = [prediction(record, seconds, batch, workers) for batch in BATCHES]
        shares = [IMAGES * seconds / (workers * whole) for whole in found]
        cells = [f"{whole / 3600:.2f}" for whole in found] + [f"{share:.0%}" for share in shares]
        rows.append([str(workers), *cells])
    return pipe_table(rows)


def prediction(record: dict, seconds: float, batch: int, workers: int) -> float:
    """Seconds of an attack on `IMAGES` images by so many workers.

    Each worker computes whole chunks one after the other, so the last chunks keep only some of them
    busy; and one process hands all chunks out.

    Args:
      record: of `benchmarks.cluster`.
      seconds: of an image on one worker.
      batch: images of a chunk.
      workers: how many there are.
    """
    chunks = math.ceil(IMAGES / batch)
    computing = math.ceil(chunks / workers) * batch * seconds
    overhead = record["many"]["overhead"] if workers > 2 else record["overhead"]
    return record["workers"]["startup"] + max(computing, chunks * overhead)


def _record(folder):
    return records.read(folder, "benchmark/cluster.json", CLUSTER)
