"""Curves of a robustness evaluation, drawn as SVG elements in the colours of its HTML page."""

import io
import math
import re
from dataclasses import dataclass, replace
from typing import List

import markupsafe
import numpy as np
from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

NORMS = {"linf": "L\N{INFINITY}", "l2": "L\N{SUBSCRIPT TWO}"}
#: A curve with more points is drawn without markers, and lists only some of them as numbers.
MOST_NUMBERS = 25

# A curve's size and margins (left, bottom, right, top) in CSS pixels, as matplotlib's points.
WIDTH, HEIGHT = 340, 235
MARGINS = (31, 40, 44, 40)
FONT = 11
STYLE = {
    "svg.hashsalt": "empir",
    "svg.fonttype": "none",
    # This font comes with matplotlib, so that the layout is the same on every machine.
    "font.family": "DejaVu Sans",
    "font.size": FONT,
}
#: Colours that matplotlib draws with, and the page's colours, light or dark, that replace them.
INK, ACCENT, FAINT, PAPER = "#010101", "#020202", "#030303", "#040404"
COLOURS = {
    INK: "currentColor",
    ACCENT: "var(--accent)",
    FAINT: "var(--line)",
    PAPER: "var(--paper)",
}
#: An axis of percent ends at the first of these that is no smaller than the curve's maximum.
TOPS = (1, 2, 5, 10, 25, 50, 100)


@dataclass(frozen=True)
class Curve:
    """How one of the record's curves is drawn.

    Attributes:
      title: heading of the figure.
      along, up: labels of the axes; "{norm}" stands for the norm of the radius.
      note: what a reader should look for.
      nothing: sentence in the place of a curve that is zero everywhere, from {0} to {1} of `along`.
      in_pixels: whether `along` is a distance between images, so that their range belongs to it.
      log: whether the axis is logarithmic.
      stairs: whether the curve is a distribution, drawn in steps.
    """

    title: str
    along: str
    up: str
    note: str
    nothing: str = ""
    in_pixels: bool = False
    log: bool = False
    stairs: bool = False


#: By their keys in a record.
CURVES = {
    "radius": Curve(
        "Accuracy against the radius",
        "{norm} radius",
        "accuracy, %",
        "At a large enough radius the accuracy must reach zero. If it does not, the attack is too "
        "weak.",
        "No image is classified correctly at radius {0} to {1}.",
        in_pixels=True,
    ),
    "steps": Curve(
        "Accuracy against the iterations of Auto-PGD",
        "iterations",
        "accuracy, %",
        "A curve that is level at its end shows that the attack has converged. If it still falls, "
        "more iterations would succeed on more images.",
        "No image is classified correctly after {0} to {1} iterations. An evaluation at a smaller "
        "radius would show whether they are enough.",
        log=True,
    ),
    "restarts": Curve(
        "Accuracy against the random starts of Auto-PGD",
        "random starts",
        "accuracy, %",
        "A curve that is level at its end shows that more random starts would find nothing new.",
        "No image is classified correctly after {0} to {1} random starts. An evaluation at a "
        "smaller radius would show whether they are enough.",
        log=True,
    ),
    "distortion": Curve(
        "Images misclassified within an L\N{SUBSCRIPT TWO} distance by CW",
        "L\N{SUBSCRIPT TWO} distance",
        "misclassified images, %",
        "CW has no radius: it looks for the nearest adversarial image. The curve is the share of "
        "images for which it found one within a distance.",
        in_pixels=True,
        stairs=True,
    ),
}


def few(points):
    """About `MOST_NUMBERS` of the points at most, evenly spaced, with the first and the last."""
    apart = max(1, -(-len(points) // MOST_NUMBERS))
    return points[:-1:apart] + points[-1:]


def drawn(record: dict, interval: str) -> List[dict]:
    """The curves of a record as the page shows them.

    Args:
      record: as `empir robustness` leaves it in result.json.
      interval: the range of images in words.

    Returns:
      Per curve the fields of `Curve`; "values", pairs of words, some of its points; "svg", its
      picture, or None for a curve that is zero everywhere, for which "note" says so.
    """
    rows = []
    for part, curve in CURVES.items():
        points = _until_nothing(part, (record.get("curves") or {}).get(part) or ())
        if not points:
            continue
        along = curve.along.format(norm=NORMS[record["norm"]])
        along += f", images in {interval}" if curve.in_pixels else ""
        curve = replace(curve, along=along)
        values = [("%.4g" % x, "%.2f" % (100 * y)) for x, y in few(points)]
        svg = None
        if any(y for _, y in points):
            spoken = ", ".join(f"{y} at {x}" for x, y in values)
            label = f"{curve.title}. {curve.up}: {spoken}"
            with style.context(["default", STYLE]):
                svg = _svg(_draw(curve, points, record), "curve-" + part, label)
        else:
            curve = replace(curve, note=curve.nothing.format(values[0][0], values[-1][0]))
        rows.append(dict(vars(curve), values=values, svg=svg))
    return sorted(rows, key=lambda row: row["svg"] is None)  # those with a picture come first


def _until_nothing(part, points):
    """Points of a curve; of accuracy against the radius those up to the first that is zero."""
    if part != "radius":
        return list(points)
    some = [number for number, (_, share) in enumerate(points) if share]
    return list(points)[: max(some, default=len(points)) + 2]


def _draw(curve: Curve, points, record) -> Figure:
    """A curve in percent, with its first and last value beside their points."""
    x, y = np.array(points, float).T
    y = 100 * y
    figure = Figure((WIDTH / 72, HEIGHT / 72), dpi=72)
    left, bottom, right, top = MARGINS
    box = (left / WIDTH, bottom / HEIGHT, 1 - (left + right) / WIDTH, 1 - (bottom + top) / HEIGHT)
    axes = figure.add_axes(box, facecolor="none", axisbelow=True)
    figure.patch.set_visible(False)
    log = curve.log and min(x) > 0 and max(x) >= 8 * min(x)
    if log:
        axes.set_xscale("log")
    if curve.log:
        axes.set_xticks(_ticks(x, np.log(x) if log else x))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    else:
        axes.locator_params(axis="x", nbins=6)
    style = "steps-post" if curve.stairs else "default"
    marker = "o" if len(x) <= MOST_NUMBERS else None
    axes.plot(x, y, color=ACCENT, lw=2, clip_on=False, drawstyle=style, marker=marker, ms=4.5)
    for i in {len(x) - 1} if curve.stairs else sorted({0, len(x) - 1}):
        axes.annotate(
            "%.3g" % y[i],
            (x[i], y[i]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontweight="bold",
            bbox=dict(facecolor=PAPER, edgecolor="none", pad=0.5),
        )
    top = next(end for end in TOPS if end >= max(y))
    axes.set_ylim(0, top)
    axes.set_yticks(np.linspace(0, top, 6 if top in (1, 5, 10, 25, 50) else 5))
    _reference(axes, curve, record, x)
    axes.grid(axis="y", color=FAINT, lw=1)
    axes.tick_params(length=0, colors=INK, labelsize=FONT, pad=6)
    for side, spine in axes.spines.items():
        spine.set(visible=side == "bottom", color=INK)
    axes.set_xlabel(curve.along, color=INK, fontsize=FONT, labelpad=5)
    axes.text(0, 1 - 6 / HEIGHT, curve.up, transform=figure.transFigure, color=INK, va="top")
    return figure


def _reference(axes, curve, record, x):
    """Draw lines to compare a curve with: the radius of the evaluation, and chance."""
    # The distances of CW are in L2, so that an L-infinity radius does not belong on their axis.
    comparable = curve.in_pixels and (not curve.stairs or record["norm"] == "l2")
    if comparable and min(x) <= record["eps"] <= max(x):
        right = record["eps"] > (min(x) + max(x)) / 2
        # A falling curve leaves room at the top, a rising one at the bottom.
        height, up, align = (0, 3, "bottom") if curve.stairs else (1, -3, "top")
        place = dict(xycoords=("data", "axes fraction"), textcoords="offset points", va=align)
        place.update(xytext=(-5 if right else 5, up), ha="right" if right else "left")
        axes.axvline(record["eps"], color=INK, lw=1, ls=(0, (4, 3)))
        axes.annotate("evaluated", (record["eps"], height), color=INK, **place)
    level = None if record.get("chance") is None else 100 * record["chance"]
    if level is not None and not curve.stairs and level <= axes.get_ylim()[1]:
        axes.axhline(level, color=INK, lw=1, ls=(0, (1, 3)))
        place = dict(xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points")
        axes.annotate("chance", (1, level), va="center", color=INK, **place)


def _ticks(values, places):
    """The values whose labels do not overlap; the last value is always one of them."""
    apart = 0.09 * (max(places) - min(places))
    kept, last = [], math.inf
    for value, place in sorted(zip(values, places), reverse=True):
        if last - place >= apart:
            kept, last = kept + [value], place
    return kept


def _svg(figure: Figure, name: str, label: str) -> markupsafe.Markup:
    """A figure as an SVG element with the page's fonts and colours, and `name` in all its ids."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    # What stands before the element belongs to a file. Its style sheet would apply to the whole
    # page, its metadata names addresses, and nothing refers to the ids of its groups.
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: (700 )?(\w+) [^;\"]*", _font, text)
    text = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{name}-", text)
    for colour, meaning in COLOURS.items():
        text = text.replace(colour, meaning)
    head = markupsafe.Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}"')
    head = head.format(label, WIDTH, HEIGHT)
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return head + markupsafe.Markup(f" {namespaces}" + text[text.index(">") :].rstrip())


def _font(found):
    """A font of matplotlib's as CSS properties that leave the family to the page."""
    return f"font-size: {found.group(2)}" + ("; font-weight: 700" if found.group(1) else "")
