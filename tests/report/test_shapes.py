"""Records of another shape in memory: whatever is wrong in one, a report names the place."""

import re

import pytest

from empir.report import robustness
from empir.report.page import page
from tests.support.damaged import WRONG, changed, places, refusal
from tests.support.reported import RECORD, record


@pytest.mark.parametrize("make", [robustness.terminal, robustness.markdown])
def test_a_record_in_memory_likewise(make):
    named = set()
    for place in places(RECORD):
        for number in range(len(WRONG) + 1):
            drop = number == len(WRONG)
            if place:
                damaged = changed(RECORD, place, None if drop else WRONG[number], drop)
                told = refusal(lambda: make(damaged))
                if told is not None:
                    assert told.startswith("the record"), told
                    named.add(place[0])
    assert {"interval", "members", "trials", "eps", "norm", "clean_accuracy"} <= named


@pytest.mark.slow
def test_a_page_names_what_is_wrong_in_its_record():
    plain = record(curves={}, verdicts=[])
    for key in RECORD:
        changes = [changed(plain, (key,), wrong) for wrong in ("x\n<b>", 10**400, [None])]
        for damaged in changes + [changed(plain, (key,), drop=True)]:
            told = refusal(lambda: page(damaged, []))
            assert told is None or re.match("the record(: %s| has no '%s')" % (key, key), told)
    assert refusal(lambda: page(record(curves={"radius": [[0, 2]]}), [])).startswith(
        "the record: curves.radius[0] is [0, 2], not a number and a fraction"
    )


@pytest.mark.parametrize(
    "name, key", [("trials", "goal"), ("verdicts", "see"), ("members", "path")]
)
def test_a_page_names_what_is_missing_inside(name, key):
    told = refusal(lambda: page(changed(record(), (name, 1, key), drop=True), []))
    if name == "members":
        assert told is None  # networks may come from no file
    else:
        assert told.startswith("the record: %s[1] has no '%s'" % (name, key))
