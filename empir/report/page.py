"""The report of a robustness evaluation as one HTML page: it runs no script and fetches nothing.

The page is page.html beside this file; what it says is put together here. The same record and
images give the same bytes.
"""

import base64
import io
import os
from typing import NamedTuple, Optional, Sequence, Tuple

import jinja2
import numpy as np
from PIL import Image

from empir.errors import EmpirError
from empir.report import networks, shapes
from empir.report.checks import explanations
from empir.report.curves import NORMS, drawn
from empir.report.networks import precision
from empir.report.pairs import difference, visible

SHOWN_PARTS = ("suite", "control")  # the parts whose trials the table of attacks lists
NOTHING = "\N{EN DASH}"  # a cell without a value
LARGEST_MAGNIFIED = 128  # pixels; images with a longer side are drawn smoothly


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


def page(
    record: dict,
    shown: Sequence[Shown],
    clip_range: Tuple[float, float] = (0.0, 1.0),
    channels: str = "RGB",
) -> str:
    """The HTML page of an evaluation.

    Args:
      record: as `empir robustness` leaves it in result.json. A fraction `chance` in it is
        drawn into the curves of accuracy.
      shown: images of the gallery, in its order; may be empty.
      clip_range: lowest and highest value of an image.
      channels: "RGB" or "BGR", the order of three channels.

    Raises:
      EmpirError: for an image that an attack broke without what the attack made of it, or a record
        that lacks something or holds something of another kind.
    """
    record = shapes.checked(record, shapes.ROBUSTNESS, "the record")
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
        curves=drawn(record, interval),
        cards=[_card(image, clip_range, channels) for image in shown],
        network=networks.title(record),
        titles=networks.titles(record["members"]),
        meanings=_meanings(record),
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


def _meanings(record):
    """What each of the record's checks means, as far as that is known: (verdict, paragraphs)."""
    known = explanations()
    verdicts = record.get("verdicts") or ()
    return [(verdict, known[verdict["name"]]) for verdict in verdicts if verdict["name"] in known]


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
    return [row.plus(state=states[row["passed"]][0], mark=states[row["passed"]][1]) for row in rows]


def _trial(trial):
    """A trial of the record with its cells."""
    tries, tags = "", ["control"] if trial["part"] == "control" else []
    if trial["rounds"] > 1:
        tries = "%d %s" % (trial["rounds"], "classes" if trial["targeted"] else "starts")
    if trial.get("eps") is not None:
        tags.append("radius %.4g" % trial["eps"])
    return trial.plus(tries=tries, tag=", ".join(tags), idle=not trial["attacked"])


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
