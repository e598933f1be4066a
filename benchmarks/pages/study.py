"""Tables and figures of the study (docs/study.md), from the records in study/ among the results."""

import os
from typing import Callable, List

import numpy as np
from matplotlib.figure import Figure

from benchmarks.pages import figures
from benchmarks.pages.shapes import GRADIENTS
from empir.experiments import Experiment
from empir.nn.precision import Precision
from empir.report import shapes
from empir.report.results import ROWS, row_records
from empir.report.rows import RULES, ball
from empir.report.tables import HEADS, pipe_table

#: Radii of the records of input gradients, as in the names of their files.
RADII = {"mnist": ("0.1", "0.3"), "cifar10": ("2-255", "0.1")}
SIZE = (4.2, 3.4)  # inches of a heat map


def names(record: dict) -> List[str]:
    """A name for each network of a record of `benchmarks.study.gradients`, e.g. "w2a4 (1)"."""
    bits = [str(Precision(one["weight_bits"], one["activation_bits"])) for one in record["members"]]
    return [f"{text} ({number})" for number, text in enumerate(bits, 1)]


def _read(folder, dataset, radius):
    path = os.path.join(folder, f"{dataset}-{radius}.json")
    return shapes.read(path, GRADIENTS)


def transfer(folder: str, experiment: Experiment) -> str:
    """Markdown table per radius: accuracy of each network on what was made for another.

    Args:
      folder: any folder beside study/, e.g. results/mnist.
      experiment: the dataset's.
    """
    folder = _folder(folder)
    parts = []
    for radius in RADII[experiment.dataset]:
        record = _read(folder, experiment.dataset, radius)
        heads = [f"PGD at {ball(radius)} on", *names(record)]
        clean = ["(clean images)", *map(_percent, record["clean"])]
        rows = [[name, *map(_percent, row)] for name, row in zip(names(record), record["transfer"])]
        parts.append(pipe_table([heads, clean, *rows]))
    return "\n\n".join(parts)


def agreement(folder: str, experiment: Experiment) -> str:
    """Markdown table of the cosine between the gradients of each pair of networks, and of signs."""
    record = _read(_folder(folder), experiment.dataset, RADII[experiment.dataset][0])
    called = names(record)
    rows = [["networks", "cosine of gradients", "cosine of their signs"]]
    for i, first in enumerate(called):
        for j, second in enumerate(called[:i]):
            pair = record["cosine"][i][j], record["sign_cosine"][i][j]
            rows.append([f"{second}, {first}", *("%.3f" % value for value in pair)])
    return pipe_table(rows)


def zeros(folder: str, experiment: Experiment) -> str:
    """Markdown table of zero gradients, and of the length that the double softmax leaves."""
    record = _read(_folder(folder), experiment.dataset, RADII[experiment.dataset][0])
    ratios = record["length_ratio"]
    rows = [
        [
            "network",
            "images with gradient 0, %",
            "pixels with gradient 0, %",
            "the same, double softmax: images, %",
            "length of the double softmax' gradient over the cross-entropy's: median",
            "5th to 95th percentile",
        ]
    ]
    for number, name in enumerate(names(record)):
        shares = [record["cross_entropy"][kind][number] for kind in ("zero_images", "zero_pixels")]
        shares.append(record["double_softmax"]["zero_images"][number])
        low, middle, high = (ratios[key][number] for key in ("5", "50", "95"))
        cells = [*map(_percent, shares), "%.2f" % middle, f"{low:.2f} to {high:.2f}"]
        rows.append([name, *cells])
    return pipe_table(rows)


def _percent(share):
    return "%.1f" % (100 * share)


def _folder(folder):
    return os.path.join(os.path.dirname(folder), "study", "gradients")


def draw(folder: str, experiments) -> Figure:
    """Heat maps of `transfer`, a row per dataset and a column per radius.

    Args:
      folder: study/gradients of the results.
      experiments: the datasets'.
    """
    columns = max(len(RADII[one.dataset]) for one in experiments)
    size = (SIZE[0] * columns, SIZE[1] * len(experiments))
    figure = Figure(figsize=size)
    grid = figure.subplots(len(experiments), columns, squeeze=False)
    for axes_of, experiment in zip(grid, experiments):
        for axes, radius in zip(axes_of, RADII[experiment.dataset]):
            record = _read(folder, experiment.dataset, radius)
            called = names(record)
            axes.set_title(f"{experiment.title}, {ball(radius)}")
            axes.set_xlabel("judged by")
            axes.set_ylabel("PGD on")
            _heat_map(axes, record["transfer"], called, called)
    figure.tight_layout()
    return figure


def draw_targets(folder: str, experiments) -> Figure:
    """Heat maps of what the paper's attacks leave: the attack and its protocol, which says what it
    differentiates, down; the decision rules and the members alone across.

    Args:
      folder: of the results.
      experiments: the datasets', each of a folder of records.
    """
    figure = Figure(figsize=(5.4 * len(experiments), 4.4))
    for axes, experiment in zip(
        figure.subplots(1, len(experiments), squeeze=False)[0], experiments
    ):
        titles, shares = [], []
        for row in (row for row in ROWS if row.model == "empir"):
            records = row_records(os.path.join(folder, experiment.dataset), row)
            for attack, record in records.items():
                titles.append(f"{HEADS[attack]}, {row.protocol}")
                judged = [record["accuracy"][rule] for rule in RULES] + record["member_accuracy"]
                shares.append([one["adversarial"] for one in judged])
        members = [f"{bits} ({number})" for number, (_, bits) in enumerate(experiment.members, 1)]
        axes.set_title(experiment.title)
        axes.set_xlabel("judged by")
        axes.set_ylabel("attack, protocol")
        _heat_map(axes, shares, titles, [*RULES, *members])
    figure.tight_layout()
    return figure


def _heat_map(axes, shares, down, across):
    shares = 100 * np.array(shares)
    axes.imshow(shares, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(across)))
    axes.set_xticklabels(across, rotation=30, ha="right")
    axes.set_yticks(range(len(down)))
    axes.set_yticklabels(down)
    for (row, column), share in np.ndenumerate(shares):
        colour = "black" if share > 60 else "white"
        axes.text(column, row, "%.1f" % share, ha="center", va="center", color=colour)


def plot(drawn: Callable, folder: str, experiments, path: str):
    """Write a figure as an SVG file; the same records give the same bytes.

    Args:
      drawn: `draw` or `draw_targets`.
      folder, experiments: its arguments.
      path: of the file.
    """
    figures.write(path, lambda: drawn(folder, experiments), {"font.size": 9.5})
