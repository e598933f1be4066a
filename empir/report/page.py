"""The report of a robustness evaluation as one HTML page: it runs no script and fetches nothing.

The page is page.html beside this file; what it says is put together here. The same record and
images give the same bytes.
"""

import base64
import io
import math
import os
import re
from typing import NamedTuple, Optional, Sequence, Tuple

import jinja2
import markupsafe
import numpy as np
from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from empir.errors import EmpirError
from empir.precision import FULL, Precision
from empir.report.pairs import difference, visible

NORMS = {"linf": "L\N{INFINITY}", "l2": "L\N{SUBSCRIPT TWO}"}
SHOWN_PARTS = ("suite", "control")  # the parts whose trials the table of attacks lists
NOTHING = "\N{EN DASH}"  # a cell without a value
LARGEST_MAGNIFIED = 128  # pixels; images with a longer side are drawn smoothly

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


class Shown(NamedTuple):
    """An image of the gallery.

    Attributes:
      row: index of the test image.
      label: its true class.
      clean: float32 [height, width, 1 or 3] in the clip range.
      clean_decision: class that the ensemble gives to it.
      clean_members: class that each member gives to it.
      trial: name of the first attack that broke it; None if none did. The rest belongs to it.
      adversarial: that attack's image, in the form of `clean`.
      decision: class that the ensemble gives to the adversarial image.
      members: class that each member gives to the adversarial image.
    """

    row: int
    label: int
    clean: np.ndarray
    clean_decision: int
    clean_members: Sequence[int]
    trial: Optional[str] = None
    adversarial: Optional[np.ndarray] = None
    decision: Optional[int] = None
    members: Optional[Sequence[int]] = None


class _Curve(NamedTuple):
    """How one of the record's curves is drawn. `along` and `note` are filled in by `format`."""

    part: str
    title: str
    along: str
    up: str
    note: str
    log: bool = False
    stairs: bool = False


CURVES = (
    _Curve(
        "radius",
        "Accuracy against the radius",
        "{norm} radius, images in {range}",
        "images still correct, %",
        "An attack that works leaves nothing once the radius is large enough.",
    ),
    _Curve(
        "steps",
        "Accuracy against iterations",
        "iterations",
        "images still correct, %",
        "Level at its end where the attack has converged; still falling, more would break more.",
        log=True,
    ),
    _Curve(
        "restarts",
        "Accuracy against random starts",
        "random starts",
        "images still correct, %",
        "Level at its end where further starts find nothing new.",
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


def page(
    record: dict,
    shown: Sequence[Shown],
    clip_range: Tuple[float, float] = (0.0, 1.0),
    channels: str = "RGB",
) -> str:
    """The HTML page of an evaluation.

    Args:
      record: as `python -m empir.robustness` leaves it in result.json. A fraction `chance` in it is
        drawn into the curves of accuracy.
      shown: images of the gallery, in its order; may be empty.
      clip_range: lowest and highest value of an image.
      channels: "RGB" or "BGR", the order of three channels.

    Raises:
      EmpirError: for an image that an attack broke without what the attack made of it.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.dirname(os.path.abspath(__file__))),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, count="{:,}".format, duration=_duration)
    interval = "[%g, %g]" % tuple(clip_range)
    return environment.get_template("page.html").render(
        record=record,
        norm=NORMS[record["norm"]],
        eps="%.4g" % record["eps"],
        range=interval,
        verdicts=_verdicts(record.get("verdicts") or ()),
        left_out=record.get("left_out") or (),
        trials=[_trial(trial) for trial in record["trials"] if trial["part"] in SHOWN_PARTS],
        curves=_curves(record, interval),
        cards=[_card(image, clip_range, channels) for image in shown],
        precisions=[precision(member) for member in record["members"]],
        groups=[
            (title, [_network(member) for member in members])
            for title, members in (
                ("Members", record["members"]),
                ("Networks whose attacks were transferred", record.get("outside")),
            )
            if members
        ],
    )


def _network(member):
    """A network of the record with its cells."""
    origin = {key: member.get(key) or NOTHING for key in ("path", "sha256")}
    return dict(origin, precision=precision(member))


def precision(member: dict) -> str:
    """A network's bits in words: of all its quantized layers, or of each where they differ."""
    bits = (member.get("weight_bits"), member.get("activation_bits"))
    layers = [len(part) for part in bits if isinstance(part, list)]
    count = layers[0] if layers else 1
    pairs = zip(*(part if isinstance(part, list) else [part] * count for part in bits))
    names = [str(Precision.of(*pair)) for pair in pairs]
    if len(set(names)) == 1:
        return "full precision" if names[0] == str(FULL) else names[0]
    return "by layer " + ", ".join(names)


def _percent(fraction):
    """A fraction in percent without the sign, a missing one as a dash."""
    return NOTHING if fraction is None else "%.2f" % (100 * fraction)


def _duration(seconds):
    if seconds < 120:
        return "%.0f s" % seconds
    return "%.0f min" % (seconds / 60) if seconds < 7200 else "%.1f h" % (seconds / 3600)


def _verdicts(verdicts):
    """The verdicts, what needs attention first, each with a mark and a word for its state."""
    states = {
        False: ("failed", "\N{BALLOT X}"),
        None: ("not judged", "?"),
        True: ("passed", "\N{CHECK MARK}"),
    }
    order = list(states)
    rows = sorted(verdicts, key=lambda verdict: order.index(verdict["passed"]))
    return [
        dict(row, state=states[row["passed"]][0], mark=states[row["passed"]][1]) for row in rows
    ]


def _trial(trial):
    """A trial of the record with its cells."""
    tries, tags = "", ["control"] if trial["part"] == "control" else []
    if trial["rounds"] > 1:
        tries = "%d %s" % (trial["rounds"], "classes" if trial["targeted"] else "starts")
    if trial.get("eps") is not None:
        tags.append("radius %.4g" % trial["eps"])
    return dict(trial, tries=tries, tag=", ".join(tags), idle=not trial["attacked"])


def _card(image: Shown, clip_range, channels):
    """An image of the gallery with its pictures as data URIs."""
    card = dict(image._asdict(), clean=_picture(visible(image.clean, clip_range, channels)))
    card["rows"] = [(decided, None) for decided in image.clean_members]
    if image.trial is None:
        return card
    if image.adversarial is None or image.decision is None:
        raise EmpirError(
            "image %d was broken by %s: its adversarial image and decision are missing"
            % (image.row, image.trial)
        )
    change, scale = difference(image.clean, image.adversarial, channels)
    card.update(
        adversarial=_picture(visible(image.adversarial, clip_range, channels)),
        difference=_picture(change),
        scale="%.2g" % scale,
        rows=list(zip(image.clean_members, image.members or [None] * len(image.clean_members))),
    )
    return card


def _picture(values):
    """PNG of an image, float [height, width] or [height, width, 3] in [0, 1]."""
    pixels = np.round(255 * np.asarray(values, np.float64)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    height, width = pixels.shape[:2]
    return {
        "uri": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"),
        "width": width,
        "height": height,
        "magnified": max(width, height) <= LARGEST_MAGNIFIED,
    }


def _curves(record, interval):
    """What the page shows of each curve that the record has."""
    norm, rows = NORMS[record["norm"]], []
    for curve in CURVES:
        points = (record.get("curves") or {}).get(curve.part)
        if points:
            words = curve._replace(along=curve.along.format(norm=norm, range=interval))
            values = [("%.4g" % x, _percent(y)) for x, y in _few(points)]
            spoken = ", ".join("%s at %s" % (y, x) for x, y in values)
            label = "%s. %s: %s" % (curve.title, curve.up, spoken)
            with style.context(["default", STYLE]):
                svg = _svg(_draw(words, points, record), "curve-" + curve.part, label)
            rows.append(dict(words._asdict(), values=values, svg=svg))
    return rows


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
    _reference(axes, curve, record, x)
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
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 25))
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
    if record.get("chance") is not None and not curve.stairs:
        level = 100 * record["chance"]
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
