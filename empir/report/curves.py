"""Curves of a robustness evaluation as SVG elements of its HTML page, in the page's own colours."""

import io
import math
import re
from typing import List, NamedTuple

import markupsafe
import numpy as np
from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

NORMS = {"linf": "L\N{INFINITY}", "l2": "L\N{SUBSCRIPT TWO}"}
MOST_NUMBERS = 25  # of a curve: more points get no marks, and not all of them stand as numbers

# A curve's size and margins (left, bottom, right, top) in CSS pixels, as matplotlib's points.
WIDTH, HEIGHT = 340, 235
MARGINS = (31, 40, 44, 40)
FONT = 11
STYLE = {
    "svg.hashsalt": "empir",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: places depend on no font of the machine
    "font.size": FONT,
}
#: Colours that matplotlib draws with, and what the page's style makes of them in light and dark.
INK, ACCENT, FAINT = "#010101", "#020202", "#030303"
COLOURS = {INK: "currentColor", ACCENT: "var(--accent)", FAINT: "var(--line)"}
#: Where an axis of percent may end: at the first that holds the curve.
TOPS = (1, 2, 5, 10, 25, 50, 100)


class _Curve(NamedTuple):
    """How one of the record's curves is drawn, or what is said where it is zero everywhere."""

    part: str
    title: str
    along: str
    up: str
    note: str
    nothing: str = ""
    log: bool = False
    stairs: bool = False


CURVES = (
    _Curve(
        "radius",
        "Accuracy against the radius",
        "{norm} radius, images in {range}",
        "images still correct, %",
        "An attack that works leaves nothing once the radius is large enough.",
        "No image is left at radius {0} to {1}.",
    ),
    _Curve(
        "steps",
        "Accuracy against iterations",
        "iterations",
        "images still correct, %",
        "Level at its end where the attack has converged; still falling, more would break more.",
        "No image is left at {0} to {1} iterations. A smaller radius shows if they are enough.",
        log=True,
    ),
    _Curve(
        "restarts",
        "Accuracy against random starts",
        "random starts",
        "images still correct, %",
        "Level at its end where further starts find nothing new.",
        "No image is left at {0} to {1} random starts. A smaller radius shows if they are enough.",
        log=True,
    ),
    _Curve(
        "distortion",
        "Images by the distance of an adversarial one",
        "at most this far (L\N{SUBSCRIPT TWO} distance, images in {range})",
        "images with an adversarial image, %",
        "Share of the images of which CW, an attack without a radius, found an adversarial one.",
        stairs=True,
    ),
)


def drawn(record: dict, interval: str) -> List[dict]:
    """What the page shows of each curve that a record has.

    Args:
      record: as `empir robustness` leaves it in result.json.
      interval: the range of images in words.

    Returns:
      Per curve the fields of `_Curve`; "values", pairs of words, some of its points; "svg", its
      picture, or None for one that is zero everywhere: what it shows then is said in "note".
    """
    norm, rows = NORMS[record["norm"]], []
    for curve in CURVES:
        points = _until_nothing((record.get("curves") or {}).get(curve.part) or (), curve)
        if not points:
            continue
        words = curve._replace(along=curve.along.format(norm=norm, range=interval))
        values = [("%.4g" % x, "%.2f" % (100 * y)) for x, y in _few(points)]
        svg = None
        if any(y for _, y in points):
            spoken = ", ".join("%s at %s" % (y, x) for x, y in values)
            label = "%s. %s: %s" % (curve.title, curve.up, spoken)
            with style.context(["default", STYLE]):
                svg = _svg(_draw(words, points, record), "curve-" + curve.part, label)
        else:
            words = words._replace(note=curve.nothing.format(values[0][0], values[-1][0]))
        rows.append(dict(words._asdict(), values=values, svg=svg))
    return sorted(rows, key=lambda row: row["svg"] is None)  # what is drawn stands together


def _until_nothing(points, curve):
    """Points of a curve; of accuracy against radius those up to the first that leaves nothing."""
    if curve.part != "radius":
        return list(points)
    some = [number for number, (_, share) in enumerate(points) if share]
    return list(points)[: max(some, default=len(points)) + 2]


def _few(points):
    """At most about `MOST_NUMBERS` of the points, evenly, the first and last among them."""
    apart = -(-len(points) // MOST_NUMBERS)
    return points[:-1:apart] + points[-1:]


def _draw(curve: _Curve, points, record) -> Figure:
    """A curve; percent upwards, its first and last value beside their points."""
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
    line = dict(drawstyle="steps-post") if curve.stairs else {}
    if len(x) <= MOST_NUMBERS:
        line.update(marker="o", ms=4.5)
    axes.plot(x, y, color=ACCENT, lw=2, clip_on=False, **line)
    for i in {len(x) - 1} if curve.stairs else sorted({0, len(x) - 1}):
        axes.annotate(
            "%.3g" % y[i],
            (x[i], y[i]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontweight="bold",
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
    """Lines to compare a curve with: the radius of the evaluation, and chance."""
    comparable = curve.part == "radius" or (curve.stairs and record["norm"] == "l2")
    if comparable and min(x) <= record["eps"] <= max(x):
        right = record["eps"] > (min(x) + max(x)) / 2
        # Away from the curve: falling ones leave the top free, rising ones the bottom.
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
    """Those of the values whose labels do not touch, the last one always among them."""
    apart = 0.09 * (max(places) - min(places))
    kept, last = [], math.inf
    for value, place in sorted(zip(values, places), reverse=True):
        if last - place >= apart:
            kept, last = kept + [value], place
    return kept


def _svg(figure: Figure, name: str, label: str) -> markupsafe.Markup:
    """A figure as an SVG element of the page: `name` in all ids, the page's fonts and colours."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    # Before the element stand a declaration and a document type. Its style sheet would be one for
    # the whole page, its metadata names addresses, and nothing refers to its groups.
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: (700 )?(\w+) [^;\"]*", _font, text)
    text = re.sub(r'(\bid="|"#|url\(#)', r"\g<1>%s-" % name, text)
    for colour, meaning in COLOURS.items():
        text = text.replace(colour, meaning)
    head = markupsafe.Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}"')
    head = head.format(label, WIDTH, HEIGHT)
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return markupsafe.Markup("%s %s%s" % (head, namespaces, text[text.index(">") :].rstrip()))


def _font(found):
    """A font of matplotlib's as properties that leave the family to the page."""
    return "font-size: %s%s" % (found.group(2), "; font-weight: 700" if found.group(1) else "")
