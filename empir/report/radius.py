"""Figure: accuracy against radius under adaptive attacks, beside PGD of the paper's protocol."""

import glob
import os

from empir.experiments import Experiment
from empir.report import shapes

#: Kind of record -> (colour, title).
LINES = {"ensemble": ("C0", "EMPIR, adaptive"), "baseline": ("C1", "baseline, adaptive")}
MARKER = 6  # points


def points(folder: str, experiment: Experiment) -> dict:
    """What the figure shows of a dataset: name -> points (radius, accuracy in percent), sorted.

    Args:
      folder: robustness/ of the results, see `robustness.summary`.
      experiment: the dataset's.

    Returns:
      "ensemble", "baseline": worst cases of all attacks; "curve": the ensemble's curve of accuracy
      against radius, at the largest radius that was evaluated; "paper": the ensemble under PGD by
      the paper's protocol.
    """
    found = {name: [] for name in ("ensemble", "baseline", "curve", "paper")}
    largest = 0.0
    for path in glob.glob(os.path.join(folder, experiment.dataset + "-*.json")):
        kind = os.path.basename(path).split("-")[1]
        if kind not in LINES:
            continue
        record = shapes.read(path, shapes.ROBUSTNESS)
        found[kind].append((record["eps"], 100 * record["worst_case_accuracy"]))
        if kind == "ensemble" and record["curves"].get("radius") and record["eps"] > largest:
            largest = record["eps"]
            found["curve"] = [(eps, 100 * share) for eps, share in record["curves"]["radius"]]
    for path in glob.glob(
        os.path.join(folder, "pgd", experiment.dataset + "-ensemble-*-paper.json")
    ):
        record = shapes.read(path, shapes.RESULT)
        found["paper"].append((record["attack"]["eps"], 100 * record["adversarial_accuracy"]))
    return {name: sorted(of) for name, of in found.items()}


def draw(folder: str, experiments):
    """The figure of `points`, a panel per dataset.

    Points of the two kinds of network that were measured at one radius stand side by side, half a
    marker to the left and to the right of it, so that neither hides the other.
    """
    from matplotlib.figure import Figure
    from matplotlib.transforms import ScaledTranslation

    figure = Figure(figsize=(10, 3.2))
    for axes, experiment in zip(figure.subplots(1, len(experiments)), experiments):
        found = points(folder, experiment)
        line = dict(color="C0", alpha=0.5, linewidth=1, label="EMPIR, Auto-PGD (200 images)")
        axes.plot(*zip(*found["curve"] or [(0, 0)]), **line)
        axes.axvline(experiment.eps, color="grey", linestyle=":", linewidth=1)
        shown = dict(linestyle="", markersize=MARKER, markeredgewidth=0)
        for side, (kind, (colour, title)) in zip((-1, 1), LINES.items()):
            apart = ScaledTranslation(side * MARKER / 2 / 72, 0, figure.dpi_scale_trans)
            place = dict(transform=axes.transData + apart, zorder=3)
            x, y = zip(*found[kind] or [(0, 0)])
            axes.plot(x, y, marker="o", color=colour, label=title, **place, **shown)
        x, y = zip(*found["paper"] or [(0, 0)])
        axes.plot(x, y, marker="^", color="C2", label="EMPIR, PGD, paper", **shown)
        axes.set_title("%s (dotted: the paper's radius)" % experiment.title)
        axes.set_xlabel("L-infinity radius, images in [0, 1]; points side by side share it")
        # A shifted line leaves the limits as they are: they hold all that is drawn.
        axes.set_xlim(*_limits([x for of in found.values() for x, _ in of] + [0, experiment.eps]))
        axes.set_ylim(-4, 104)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy, %")
    figure.axes[0].legend()
    figure.tight_layout()
    return figure


def _limits(values):
    """The range of some values with a twentieth of it to either side."""
    room = (max(values) - min(values)) / 20
    return min(values) - room, max(values) + room


def plot(folder: str, experiments, path: str):
    """Write the figure of `draw` as an SVG file, the same bytes for the same records."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with matplotlib.rc_context({"svg.hashsalt": "empir", "font.size": 9}):
        figure = draw(folder, experiments)
        FigureCanvasSVG(figure)
        figure.savefig(path, metadata={"Date": None})
