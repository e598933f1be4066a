"""Figure of accuracy against the radius, under adaptive attacks and under the paper's PGD."""

import glob
import os
from typing import Dict, Tuple

from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from benchmarks.pages import figures
from empir.experiments import Experiment
from empir.report import rows, shapes

#: Records of the adaptive suite, by the decision rule of an ensemble or the kind of a network:
#: title, marker, and on which side of the radius it is drawn and how far, in half markers. Colours
#: are those of Okabe and Ito, which colour-blind readers can tell apart; the markers differ too.
SUITES: Dict[str, Tuple[str, dict, int]] = {
    "vote": ("EMPIR, vote, adaptive suite", dict(color="#CC79A7", marker="D"), -2),
    "mean_logits": ("EMPIR, mean logits, adaptive suite", dict(color="#0072B2", marker="o"), 0),
    "baseline": ("baseline, adaptive suite", dict(color="#D55E00", marker="s"), 2),
}
PAPER: Tuple[str, dict] = ("EMPIR, PGD, protocol paper", dict(color="#009E73", marker="^"))
CURVE: Tuple[str, dict] = (
    "EMPIR, Auto-PGD on 200 images",
    dict(color="#0072B2", alpha=0.6, linewidth=1.2),
)
MARKER = 6  # points
WIDTH, HEIGHT = 4.9, 2.8  # inches of a panel; text stays readable on a telephone


def points(folder: str, experiment: Experiment) -> dict:
    """The points (L-infinity radius, accuracy in percent) of a dataset, sorted.

    Args:
      folder: robustness/ of the results, see `suites.markdown`.
      experiment: the dataset's.

    Returns:
      Lists of points: those of `SUITES` have the robust accuracy under the suite, "paper" has the
      ensemble's accuracy under PGD and the protocol paper, and "curve" has the ensemble's curve of
      accuracy against the radius, from its record of the largest radius, the vote's if it has one.
    """
    found: Dict[str, list] = {name: [] for name in (*SUITES, "curve", "paper")}
    curves = []
    for row in rows.suites(folder, experiment.dataset):
        series = row.rule if row.kind == "ensemble" else row.kind
        record = shapes.read(row.path, shapes.ROBUSTNESS)
        if record["norm"] != "linf":
            continue
        if series in SUITES:
            found[series].append((record["eps"], 100 * record["worst_case_accuracy"]))
        if row.kind == "ensemble" and record["curves"].get("radius"):
            curves.append((row.rule == "vote", record["eps"], record["curves"]["radius"]))
    if curves:
        found["curve"] = [(eps, 100 * share) for eps, share in max(curves)[-1]]
    for path in glob.glob(
        os.path.join(folder, "pgd", experiment.dataset + "-ensemble-*-paper.json")
    ):
        record = shapes.read(path, shapes.RESULT)
        found["paper"].append((record["attack"]["eps"], 100 * record["adversarial_accuracy"]))
    return {name: sorted(of) for name, of in found.items()}


def draw(folder: str, experiments) -> Figure:
    """The figure of `points`, a panel per dataset.

    At a radius of several records the vote's marker is to the left of it and the baseline's to the
    right, so that none hides another.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT * len(experiments)))
    for axes, experiment in zip(figure.subplots(len(experiments)), experiments):
        found = points(folder, experiment)
        dots = dict(linestyle="", markersize=MARKER, markeredgewidth=0)
        title, look = CURVE
        axes.plot(*zip(*found["curve"] or [(0, 0)]), label=title, **look)
        axes.axvline(experiment.eps, color="grey", linestyle=":", linewidth=1)
        for kind, (title, look, side) in SUITES.items():
            apart = ScaledTranslation(side * MARKER / 2 / 72, 0, figure.dpi_scale_trans)
            place = dict(transform=axes.transData + apart, zorder=3)
            axes.plot(*zip(*found[kind] or [(0, 0)]), label=title, **look, **dots, **place)
        title, look = PAPER
        axes.plot(*zip(*found["paper"] or [(0, 0)]), label=title, **look, **dots)
        axes.set_title(f"{experiment.title} (dotted: the paper's radius)")
        axes.set_ylabel("accuracy, %")
        # Matplotlib ignores markers with a transform of their own when it sets the limits.
        axes.set_xlim(*_limits([x for of in found.values() for x, _ in of] + [0, experiment.eps]))
        axes.set_ylim(-4, 104)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    # The last panel has room between the curve and the dotted line.
    axes.legend(loc="upper right", bbox_to_anchor=(0.94, 1.02))
    axes.set_xlabel("L-infinity radius, images in [0, 1]")
    figure.tight_layout()
    return figure


def _limits(values):
    """The range of some values with a margin of a twentieth of it on either side."""
    room = (max(values) - min(values)) / 20
    return min(values) - room, max(values) + room


def plot(folder: str, experiments, path: str):
    """Write the figure of `draw` as an SVG file; the same records give the same bytes."""
    style = {"font.size": 9.5, "legend.fontsize": 9}
    figures.write(path, lambda: draw(folder, experiments), style)
