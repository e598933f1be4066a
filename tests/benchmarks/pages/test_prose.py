"""Figures in sentences: they are the records', and a page that says others is found."""

import json
import os
import re

import pytest

from benchmarks.pages import prose, render
from empir.errors import EmpirError
from tests.support import ROOT

RECORDS = {
    "a/result.json": {"accuracy": 0.15849, "images": 10000, "flag": True, "name": "a"},
    "b.json": {"trials": [{"name": "noise", "accuracy": 0.9}, {"name": "pgd", "accuracy": 0.1}]},
}
BLOCK = "<!-- figures\na/result.json:accuracy .4f\nb.json:trials.1.accuracy .2f\n-->\n"


@pytest.fixture
def results(tmp_path):
    """A folder of records."""
    for path, record in RECORDS.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(json.dumps(record))
    return str(tmp_path)


@pytest.mark.parametrize(
    "claim, number",
    [
        ("a/result.json:accuracy .1%", "15.8"),
        ("a/result.json:accuracy .4f", "0.1585"),
        ("a/result.json:images ,d", "10,000"),
        ("b.json:trials.noise.accuracy .0%", "90"),
        ("b.json:trials.1.accuracy .2f", "0.10"),
        ("b.json:trials.noise.accuracy - b.json:trials.pgd.accuracy .1%", "80.0"),
        ("b.json:trials.pgd.accuracy - b.json:trials.noise.accuracy .1f", "-0.8"),
    ],
)
@pytest.mark.parametrize("stale", ["99", "1,234.5", "-0.25"])
def test_a_marked_number_is_what_the_record_says(claim, number, stale, results):
    text = "It keeps (%s<!-- %s --> %%), not 7.5.\n"
    old, new = text % (stale, claim), text % (number, claim)
    assert prose.render(old, results) == new == prose.render(new, results)
    assert prose.differences(old, new) == [claim] and prose.differences(new, new) == []


def test_the_decimal_fractions_of_a_code_block_are_those_of_its_list(results):
    text = "before 0.5\n" + BLOCK + "```text\nL_2 and 3: %s\nmore: %s\n```\nafter 0.25\n"
    new = text % ("0.1585", "0.10")
    assert prose.render(text % ("0.3", "17.25"), results) == new
    assert prose.differences(text % ("0.1585", "0.3"), new) == ["b.json:trials.1.accuracy .2f"]


@pytest.mark.parametrize(
    "text, says",
    [
        ("1<!-- none.json:accuracy .1% -->", "there is no none.json"),
        ("1<!-- b.json:trials.fgsm.accuracy .1% -->", "b.json:trials.fgsm.accuracy .* no fgsm"),
        ("1<!-- b.json:trials.7.accuracy .1% -->", "has no 7"),
        ("1<!-- a/result.json:name .1% -->", "is 'a', not a number"),
        ("1<!-- a/result.json:flag .1% -->", "is True, not a number"),
        (BLOCK + "```text\n0.1\n```\n", "has 1 decimal fractions, but .* lists 2"),
    ],
)
def test_a_figure_without_a_record_is_an_error(text, says, results):
    with pytest.raises(EmpirError, match=says):
        prose.render(text, results)


def test_the_check_names_the_page_and_the_figure(tmp_path, results, monkeypatch, caplog):
    monkeypatch.setattr(render, "RESULTS", results)
    page = tmp_path / "README.md"
    page.write_text("It keeps 14.0<!-- a/result.json:accuracy .1% --> %.\n")
    assert render.main(["--check"], str(tmp_path)) == 1
    assert "README.md is not of the records in a/result.json:accuracy .1%: run" in caplog.text
    assert render.main([], str(tmp_path)) == 0
    assert page.read_text().startswith("It keeps 15.8<!--")
    assert render.main(["--check"], str(tmp_path)) == 0


#: Percentages in the prose of pages on results that no record holds.
OTHERS = {
    "1.5 %": "of the literature",
    "1.41 %": "of the literature",
    "3.1 points": "half of the widest interval of 1,000 images",
    "2 points": "a limit of a check",
    "0.1 points": "one image of 1,000",
}


@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/robustness.md", "docs/faq.md"]
    + ["docs/results-%s.md" % name for name in ("mnist", "cifar10", "imagenet", "defenses")],
)
def test_percentages_in_sentences_on_results_are_marked(page):
    with open(os.path.join(ROOT, page), encoding="utf8") as file:
        text = render.PATTERN.sub("", file.read())
    text = re.sub(r"^```.*?^```|!\[.*?\]", "", text, flags=re.DOTALL | re.MULTILINE)
    number = r"\d+(?:\.\d+)?"
    found = re.findall(rf"(?<![\w.])(?:\d+\.\d+ %|{number} to {number} %|{number} points)", text)
    assert not set(found) - set(OTHERS), "write NUMBER<!-- RECORD:KEY FORMAT -->"
