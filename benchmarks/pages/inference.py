"""What ensembles take beside one network (benchmarks/inference.py): tables and a figure."""

from typing import Dict, Tuple

import numpy as np

from benchmarks.pages import figures, records
from benchmarks.pages.shapes import INFERENCE
from empir.report.results import paper_overhead
from empir.report.tables import pipe_table

#: A system and a precision -> their title.
SYSTEMS = {
    ("onnxruntime", "integer"): "current ONNX Runtime, integers",
    ("onnxruntime-1.10", "integer"): "ONNX Runtime 1.10, integers",
    ("onnxruntime", "float"): "current ONNX Runtime, float32",
    ("onnxruntime-1.10", "float"): "ONNX Runtime 1.10, float32",
    ("tensorflow", "float"): "TensorFlow 1.15, float32",
    ("pytorch", "float"): "PyTorch, float32",
}
#: The systems whose integers a sentence quotes.
INTEGERS = [system for system in SYSTEMS if system[1] == "integer"]
BATCH = 100
NOT_MEASURED = "-"
MISSING = "This has not been measured yet."
FIGURE = "![By how much ensembles take longer than one network](../results/inference.svg)"

#: (system, precision, network, threads, batch) -> milliseconds per call, in turns.
Times = Dict[Tuple[str, str, str, int, int], np.ndarray]


def load(folder: str) -> dict:
    """The record inference.json beside a dataset's folder of results; empty if there is none."""
    record = records.read(folder, "inference.json", INFERENCE)
    return {} if record is None else record


def times(network: dict) -> Times:
    """Milliseconds of the calls of a network of the record."""
    found: Times = {}
    for cell in network["cells"]:
        key = cell["system"], cell["precision"], cell["network"], cell["threads"], cell["batch"]
        found[key] = np.array(cell["milliseconds"])
    return found


def overhead(found: Times, system: Tuple[str, str], threads: int, batch: int):
    """Percent by which the ensemble takes longer than the baseline, its full-precision member, in
    the same runtime: the median over turns. None if it was not measured."""
    ensemble = found.get((*system, "ensemble", threads, batch))
    baseline = found.get((system[0], "float", "baseline", threads, batch))
    if ensemble is None or baseline is None:
        return None
    turns = min(len(ensemble), len(baseline))
    return 100 * float(np.median(ensemble[:turns] / baseline[:turns]) - 1)


def _percent(value) -> str:
    return NOT_MEASURED if value is None else f"{value:+.0f} %"


def overheads(folder: str, _) -> str:
    """Markdown table: the overhead of each ensemble in each system, one and two threads; and the
    figure."""
    networks = {name: times(each) for name, each in load(folder).get("networks", {}).items()}
    if not networks:
        return MISSING
    heads = [f"{name}, {threads}" for name in networks for threads in ("1 thread", "2 threads")]
    rows = [["system", *heads]]
    for system, title in SYSTEMS.items():
        values = [
            overhead(found, system, threads, BATCH)
            for found in networks.values()
            for threads in (1, 2)
        ]
        rows.append([title, *map(_percent, values)])
    rows.append(["the paper's claim", *["< %g %%" % paper_overhead()] * len(heads)])
    return f"{pipe_table(rows)}\n\n{FIGURE}"


def milliseconds(folder: str, _) -> str:
    """Markdown table: milliseconds per image with one thread, by batch size."""
    networks = load(folder).get("networks", {})
    if not networks:
        return MISSING
    batches = sorted({cell["batch"] for each in networks.values() for cell in each["cells"]})
    rows = [["network", "what", "system", *(f"batch {batch}" for batch in batches)]]
    for name, network in networks.items():
        found = times(network)
        titles = dict(ensemble="ensemble", baseline="full precision")
        low = [f"member {bits}" for bits in network["members"]]
        titles.update(zip(("member1", "member2"), low))
        for what, title in titles.items():
            for system, system_title in SYSTEMS.items():
                cells = [found.get((*system, what, 1, batch)) for batch in batches]
                if any(cell is not None for cell in cells):
                    texts = [
                        NOT_MEASURED if cell is None else f"{np.median(cell) / batch:.3g}"
                        for cell, batch in zip(cells, batches)
                    ]
                    rows.append([name, title, system_title, *texts])
    return pipe_table(rows, "lll")


def memory(folder: str, _) -> str:
    """Markdown table: bytes of the weights and of the files, and resident memory."""
    if not load(folder):
        return MISSING
    heads = ["network", "what", "weights as float32, MB", "a byte each", "packed", "file, MB"]
    rows = [[*heads, "resident, ONNX Runtime 1.10, MB", "current, MB"]]
    for name, network in load(folder).get("networks", {}).items():
        for what, sizes in network["bytes"].items():
            cells = [sizes[key] / 2**20 for key in ("float32", "bytes", "packed", "file")]
            for system in ("onnxruntime-1.10", "onnxruntime"):
                cells.append(network["resident_mb"].get(f"{what}, {system}"))
            texts = [NOT_MEASURED if cell is None else f"{cell:.3g}" for cell in cells]
            rows.append([name, what, *texts])
    return pipe_table(rows, "ll")


def sentence(folder: str, _) -> str:
    """What integers cost, as a sentence for the README."""
    claim = (
        "The paper says that an ensemble needs less than %g %% more compute and memory than one "
    )
    text = claim % paper_overhead() + "network. "
    networks = load(folder).get("networks", {})
    if not networks:
        return text + "How long integer arithmetic takes has not been measured yet."
    parts = []
    for name, network in networks.items():
        found = times(network)
        values = [overhead(found, system, 1, BATCH) for system in INTEGERS]
        known = [value for value in values if value is not None]
        if known:
            edges = dict.fromkeys(f"{edge:.0f}" for edge in (min(known), max(known)))
            parts.append(f"{' to '.join(edges)} % on {name}")
    return (
        f"{text}Measured in two versions of ONNX Runtime with 8-bit integers, one thread and "
        f"batches of {BATCH}, it takes longer by {', '.join(parts)}."
    )


def draw(folder: str):
    """A figure of the ensembles' time over the baseline's in each system, one thread."""
    from matplotlib.figure import Figure

    networks = {name: times(each) for name, each in load(folder)["networks"].items()}
    figure = Figure(figsize=(10, 3.4))
    axes, places = figure.subplots(), np.arange(len(networks))
    width = 0.8 / len(SYSTEMS)
    for index, (system, title) in enumerate(SYSTEMS.items()):
        values = [overhead(found, system, 1, BATCH) for found in networks.values()]
        heights = [np.nan if value is None else value for value in values]
        axes.bar(places + width * (index + 0.5) - 0.4, heights, width, label=title)
    axes.axhline(paper_overhead(), color="black", linewidth=1, label="the paper's claim, below it")
    axes.set_xticks(places)
    axes.set_xticklabels(networks)
    axes.set_ylabel("time over one full-precision\nnetwork's in the same runtime, + %")
    axes.grid(axis="y", alpha=0.5)
    axes.set_axisbelow(True)
    axes.legend(fontsize=7)
    figure.tight_layout()
    return figure


def plot(folder: str, path: str):
    """Write the figure of `draw` as an SVG file, the same bytes for the same record."""
    figures.write(path, lambda: draw(folder), {"font.size": 9})
