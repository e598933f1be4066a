"""The report of a robustness evaluation as one HTML page: it runs no script and fetches nothing.

The template is page.html beside this file. The same record and images give the same bytes.
"""

import base64
import io
import itertools
import os
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

import jinja2
import numpy as np
from PIL import Image

from empir.errors import EmpirError
from empir.report import networks, shapes
from empir.report.checks import explanations
from empir.report.curves import NORMS, drawn
from empir.report.networks import precision
from empir.report.pairs import difference, visible
from empir.report.results import chosen

#: Parts of an evaluation that the table of attacks lists.
SHOWN_PARTS = ("suite", "control")
NOTHING = "\N{EN DASH}"  # a cell without a value
#: Images whose longer side has more pixels than this are scaled smoothly.
LARGEST_MAGNIFIED = 128


@dataclass(frozen=True)
class Shown:
    """An image of the page, and the first adversarial image that was found for it.

    Attributes:
      row: its index among the evaluated images.
      label: its true class.
      clean: float32 [height, width, 1 or 3] in the clip range.
      clean_decision: the ensemble's class of it.
      clean_members: each member's class of it.
      attack: name of the first attack that succeeded on it; None if none did. The other attributes
        belong to that attack.
      adversarial: the adversarial image, in the form of `clean`.
      decision: the ensemble's class of the adversarial image.
      members: each member's class of the adversarial image.
    """

    row: int
    label: int
    clean: np.ndarray
    clean_decision: int
    clean_members: Sequence[int]
    attack: Optional[str] = None
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
      record: as `empir robustness` leaves it in result.json. The curves of accuracy show the
        fraction `chance` if the record has it.
      shown: images of the page in their order; may be empty.
      clip_range: lowest and highest value of an image.
      channels: "RGB" or "BGR", the order of three channels.

    Raises:
      EmpirError: if the adversarial image of a successful attack is missing, or a value of the
        record is missing or of the wrong type.
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
        checks=_checks(record.get("verdicts") or ()),
        left_out=record.get("left_out") or (),
        attacks=[_attack(row) for row in record["trials"] if row["part"] in SHOWN_PARTS],
        curves=drawn(record, interval),
        chosen=chosen(record["data"]),
        cards=[_card(image, clip_range, channels) for image in shown],
        network=networks.title(record),
        titles=networks.titles(record["members"]),
        meanings=_meanings(record),
        groups=[
            (title, [_network(member) for member in members])
            for title, members in (
                ("Members", record["members"]),
                ("Networks from which attacks were transferred", record.get("outside")),
            )
            if members
        ],
    )


def _network(member):
    """A network of the record with its cells."""
    origin = {key: member.get(key) or NOTHING for key in ("path", "sha256")}
    return dict(origin, precision=precision(member))


def _meanings(record):
    """The record's checks that have an explanation: (check, paragraphs)."""
    known = explanations()
    checks = record.get("verdicts") or ()
    return [(check, known[check["name"]]) for check in checks if check["name"] in known]


def _percent(fraction):
    """A fraction in percent without the sign, a missing one as a dash."""
    return NOTHING if fraction is None else "%.2f" % (100 * fraction)


def _duration(seconds):
    if seconds < 120:
        return "%.0f s" % seconds
    return "%.0f min" % (seconds / 60) if seconds < 7200 else "%.1f h" % (seconds / 3600)


def _checks(checks):
    """The checks, those that failed first, each with a mark and a word for its state."""
    states = {
        False: ("failed", "\N{BALLOT X}"),
        None: ("not judged", "?"),
        True: ("passed", "\N{CHECK MARK}"),
    }
    rows = sorted(checks, key=lambda check: list(states).index(check["passed"]))
    return [row.plus(state=states[row["passed"]][0], mark=states[row["passed"]][1]) for row in rows]


def _attack(row):
    """An attack of the record with its cells."""
    repeats, tags = "", ["control"] if row["part"] == "control" else []
    if row["rounds"] > 1:
        repeats = "%d %s" % (row["rounds"], "targets" if row["targeted"] else "starts")
    if row.get("eps") is not None:
        tags.append("radius %.4g" % row["eps"])
    return row.plus(repeats=repeats, tag=", ".join(tags), idle=not row["attacked"])


def _card(image: Shown, clip_range, channels):
    """An image of the page with its pictures as data URIs."""
    card = dict(vars(image), clean=_picture(visible(image.clean, clip_range, channels)))
    card["rows"] = [(predicted, None) for predicted in image.clean_members]
    if image.attack is None:
        return card
    if image.adversarial is None or image.decision is None:
        raise EmpirError(
            f"image {image.row} is misclassified under {image.attack}: its adversarial image and "
            "decision are missing"
        )
    change, scale = difference(image.clean, image.adversarial, channels)
    card.update(
        adversarial=_picture(visible(image.adversarial, clip_range, channels)),
        difference=_picture(change),
        scale="%.2g" % scale,
        rows=list(zip(image.clean_members, image.members or itertools.repeat(None))),
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
