"""Curves of the page: axes that their data fill, and words for what is zero everywhere."""

import os
import re

import numpy as np
import pytest

from empir.records.runs import read_json
from empir.report.curves import CURVES, HEIGHT, MARGINS, WIDTH
from empir.report.page import page
from tests.support import RESULTS
from tests.support.reported import RECORD, record

ROBUSTNESS = os.path.join(RESULTS, "robustness")
RECORDS = sorted(name for name in os.listdir(ROBUSTNESS) if name.endswith(".json"))


def curves_of(text):
    """(curve, svg) of a page."""
    for svg in re.findall("<svg.*?</svg>", text, re.DOTALL):
        yield re.search(r'aria-label="([^"]*?)\.', svg).group(1), svg


def drawn(svg):
    """Pixels [n, 2] of a curve of the page."""
    found = re.findall(r'<use xlink:href="[^"]*" x="([\d.]+)" y="([\d.]+)"', svg)
    if not found:
        path = max(re.findall(r'<path d="([^"]*)"', svg), key=len)
        found = re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)
    return np.array(found, float)


@pytest.mark.parametrize("name", RECORDS)
def test_curves_of_the_page_fill_their_axes(name):
    left, bottom, right, top = MARGINS
    for title, svg in curves_of(page(read_json(os.path.join(ROBUSTNESS, name)), [])):
        points = drawn(svg)
        assert len(points) > 1
        low, high = (left, top), (WIDTH - right, HEIGHT - bottom)
        # A pixel in a hundred: lines are as wide.
        assert (points >= np.subtract(low, 1)).all() and (points <= np.add(high, 1)).all(), title
        across, up = np.ptp(points, axis=0) / np.subtract(high, low)
        assert across >= 0.6, title
        # An accuracy may be level, which is what it is to show, but not at the bottom. One image
        # in 500 is a fifth of the smallest axis.
        assert max(high[1] - points[:, 1]) >= 0.15 * (high[1] - low[1]), title


def test_a_curve_that_is_zero_everywhere_is_told_in_words():
    zero = dict(steps=[[10, 0.0], [160, 0.0]], restarts=[[1, 0.0], [10, 0.0]])
    text = page(record(curves=dict(RECORD["curves"], **zero)), [])
    titles = [title for title, _ in curves_of(text)]
    assert titles == [CURVES["radius"].title, CURVES["distortion"].title]
    assert "No image is classified correctly after 10 to 160 iterations" in text
    assert "No image is classified correctly after 1 to 10 random starts" in text
