"""Figures: axes that their data fill, and points of which none hides another."""

import json
import os

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.pages import radius, speed
from empir.experiments import EXPERIMENTS
from tests.support import RESULTS

ROBUSTNESS = os.path.join(RESULTS, "robustness")
FIGURES = {
    "attacks": lambda: speed.draw(os.path.join(RESULTS, "mnist")),
    "radius": lambda: radius.draw(ROBUSTNESS, [EXPERIMENTS[d] for d in ("mnist", "cifar10")]),
}


@pytest.fixture(scope="module", params=FIGURES)
def figure(request):
    """A figure of the committed records, laid out."""
    made = FIGURES[request.param]()
    FigureCanvasAgg(made)
    made.canvas.draw()
    return made


def series(axes):
    """Pixels [n, 2] of each series of points, and of the tops of bars, by its title."""
    found = {}
    for line in axes.lines:
        if not line.get_label().startswith("_"):
            found[line.get_label()] = line.get_transform().transform(line.get_xydata())
    for bars in axes.containers:
        tops = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in bars]
        tops = np.array([top for top in tops if np.isfinite(top[1])])
        found[bars.get_label()] = axes.transData.transform(tops)
    return found


def test_data_fill_their_axes(figure):
    """Half of each side at least: limits of 1e16 for bars of 500 left them all looking alike."""
    assert figure.axes
    for axes in figure.axes:
        points = np.concatenate(list(series(axes).values()))
        box = axes.get_window_extent()
        assert (points >= box.min).all() and (points <= box.max).all()
        assert (np.ptp(points, axis=0) >= 0.5 * box.size).all()


def test_no_point_hides_another(figure):
    for axes in figure.axes:
        size = {line.get_label(): line.get_markersize() for line in axes.lines}
        shape = {line.get_label(): line.get_marker() for line in axes.lines}
        for one, at in series(axes).items():
            for other, there in series(axes).items():
                if one < other and "None" not in (shape.get(one, "o"), shape.get(other, "o")):
                    apart = np.linalg.norm(at[:, np.newaxis] - there, axis=2).min()
                    width = size.get(one, 6) * figure.dpi / 72
                    # A hundredth: places are rounded.
                    assert apart >= 0.99 * width, (axes.get_title(), one, other)


def test_what_differs_by_a_fifth_looks_different():
    """Measured times of two systems that are this far apart, in the columns of the figure."""
    made = FIGURES["attacks"]()
    made.canvas.draw()
    for axes in made.axes:
        tops = axes.transData.transform([(0, 10), (0, 12)])
        assert tops[1, 1] - tops[0, 1] > 4  # pixels, of about 250


def test_text_lies_inside_the_figure(figure):
    width, height = figure.canvas.get_width_height()
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        box = axes.get_tightbbox(renderer)
        assert 0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height


@pytest.mark.parametrize("attack", [None, "fgsm"])
def test_a_comparison_of_little_has_limits_too(tmp_path, attack):
    """Of nothing, and of a single attack of one model."""
    (tmp_path / "benchmark").mkdir()
    record = {"attacks": {}}
    if attack:
        systems = {"empir": {"seconds": [5.0], "forward_passes": None}}
        measured = {"systems": systems, "parameters": {}}
        record["attacks"]["mnist-ensemble/fgsm/100"] = measured
    (tmp_path / "benchmark" / "comparison.json").write_text(json.dumps(record))
    for axes in speed.draw(str(tmp_path / "mnist")).axes:
        low, high = axes.get_ylim()
        assert 0 < low < high < 1e4
