"""Figure: accuracy against radius under adaptive attacks, beside PGD of the paper's protocol."""

import glob
import os

from empir.protocols import Experiment
from empir.runs import read_json

#: Kind of record -> (colour, title).
LINES = {"ensemble": ("C0", "EMPIR, adaptive"), "baseline": ("C1", "baseline, adaptive")}


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
        record = read_json(path)
        found[kind].append((record["eps"], 100 * record["worst_case_accuracy"]))
        if kind == "ensemble" and record["curves"].get("radius") and record["eps"] > largest:
            largest = record["eps"]
            found["curve"] = [(eps, 100 * share) for eps, share in record["curves"]["radius"]]
    for path in glob.glob(
        os.path.join(folder, "pgd", experiment.dataset + "-ensemble-*-paper.json")
    ):
        record = read_json(path)
        found["paper"].append((record["attack"]["eps"], 100 * record["adversarial_accuracy"]))
    return {name: sorted(of) for name, of in found.items()}


def plot(folder: str, experiments, path: str):
    """Draw a panel per dataset as an SVG file, the same bytes for the same records."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "empir", "font.size": 9}):
        figure = Figure(figsize=(10, 3.2))
        FigureCanvasSVG(figure)
        for axes, experiment in zip(figure.subplots(1, len(experiments)), experiments):
            found = points(folder, experiment)
            line = dict(color="C0", alpha=0.5, linewidth=1, label="EMPIR, Auto-PGD (200 images)")
            axes.plot(*zip(*found["curve"] or [(0, 0)]), **line)
            for kind, (colour, title) in LINES.items():
                axes.plot(*zip(*found[kind] or [(0, 0)]), "o", color=colour, label=title)
            axes.plot(*zip(*found["paper"] or [(0, 0)]), "^", color="C2", label="EMPIR, PGD, paper")
            axes.axvline(experiment.eps, color="grey", linestyle=":", linewidth=1)
            axes.set_title("%s (dotted: the paper's radius)" % experiment.title)
            axes.set_xlabel("L-infinity radius, images in [0, 1]")
            axes.set_ylim(-3, 103)
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("accuracy, %")
        figure.axes[0].legend()
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
