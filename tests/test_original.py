"""docs/original.md: figures are those of the package, and links find their place."""

import os
import re

import pytest

from empir.experiments import EXPERIMENTS, TABLE_ATTACKS
from empir.report.results import paper_row
from tests.support import ROOT

SECTIONS = (
    ("Paper", "Lineage", "Defects", "Networks", "Quantizers", "Combination rule", "Flags")
    + ("Training", "Data", "Attacks", "Evaluation", "Checkpoint variables")
    + ("Cost of the original attacks", "Random weights (`--rand`)", "Later criticism")
)
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "imagenet": "ImageNet"}

with open(os.path.join(ROOT, "docs", "original.md"), encoding="utf8") as _file:
    TEXT = _file.read()


def rows(first):
    """Cells of the tables' rows whose first cell is this."""
    lines = [line for line in TEXT.splitlines() if line.startswith("| %s |" % first)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def anchor(heading):
    """What GitHub calls a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_sections_are_numbered_and_links_lead_to_them():
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert headings == ["%d. %s" % pair for pair in enumerate(SECTIONS, 1)]
    places = {anchor(heading) for heading in headings}
    linked = set(re.findall(r"\]\(#([^)]*)\)", TEXT))
    assert linked <= places and len(linked) == len(SECTIONS)


def test_defects_are_numbered_without_a_gap():
    numbers = re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)
    assert numbers == [str(number) for number in range(1, 26)]


def test_every_section_says_what_is_done_here():
    for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        assert "**Here**" in part or "| here |" in part, part.splitlines()[0]


@pytest.mark.parametrize("dataset", TITLES)
def test_the_papers_figures_are_those_of_the_package(dataset):
    found = [row for row in rows(TITLES[dataset]) if len(row) == 9]
    for model, row in zip(("baseline", "empir"), found):
        figures = paper_row(dataset, model)
        keys = ("clean",) + TABLE_ATTACKS + ("average",)
        assert row[3:] == ["%.2f" % figures[key] for key in keys], model
    names = ", ".join(str(precision) for _, precision in EXPERIMENTS[dataset].members)
    assert [row[2] for row in found] == ["fp", names]


@pytest.mark.parametrize(
    "flag, field",
    [
        ("`--nb_filters`", "nb_filters"),
        ("`--nb_epochs`", "nb_epochs"),
        ("`--batch_size`", "batch_size"),
        ("`--eps`", "eps"),
        ("`--nb_iter`", "nb_iter"),
        ("`--attack_iterations`", "cw_iterations"),
    ],
)
def test_the_originals_defaults_are_those_of_the_experiments(flag, field):
    (row,) = rows(flag)
    assert row[1:4] == ["%g" % getattr(EXPERIMENTS[dataset], field) for dataset in TITLES]
