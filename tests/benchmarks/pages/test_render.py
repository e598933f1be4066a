"""Pages are written between their markers as the records say, or checked."""

import os

import pytest

from benchmarks.pages import paper, render
from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.experiments import EXPERIMENTS
from tests.support import RESULTS
from tests.support.kept import BASELINE, found, keep_attacks, keep_suite
from tests.support.reported import TRIAL


@pytest.fixture(params=["README.md", "docs/mnist.md", "docs/more/mnist.md"])
def page(request, tmp_path, monkeypatch):
    """A page with the markers of two tables, beside records; returns its path."""
    keep_attacks(tmp_path / "mnist", "baseline", BASELINE)
    (tmp_path / "README.md").write_text("No table.\n")
    path = tmp_path / request.param
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "before\n<!-- results:mnist -->\nold\n<!-- end -->\nbetween\n"
        "<!-- members:mnist -->\n<!-- end -->\nafter\n"
    )
    monkeypatch.setattr(render, "RESULTS", str(tmp_path))
    return path


def test_the_report_is_written_between_the_markers_and_checked(page, tmp_path, caplog):
    root, old = str(tmp_path), page.read_text()
    assert render.main(["--check"], root) == 1 and page.read_text() == old
    says = "%s is not of the records in results:mnist, members:mnist: run"
    assert says % page.relative_to(tmp_path) in caplog.text
    assert render.main([], root) == 0
    new = page.read_text()
    table = paper.markdown(str(tmp_path / "mnist"), EXPERIMENTS["mnist"])
    assert new.startswith("before\n<!-- results:mnist -->\n%s\n<!-- end -->\nbetween\n" % table)
    assert new.endswith("<!-- end -->\nafter\n") and "old" not in new
    assert render.main(["--check"], root) == 0 and page.read_text() == new


def test_the_report_takes_no_other_argument(page, tmp_path):
    old = page.read_text()
    with pytest.raises(EmpirError):
        render.main(["--chek"], str(tmp_path))
    assert page.read_text() == old


def test_the_pages_tables_are_those_of_the_records():
    found = set()
    for path in render.pages():
        with open(path, encoding="utf8") as file:
            found |= {match.group(1) for match in render.PATTERN.finditer(file.read())}
    assert found == set(render.TABLES), "a kind of table stands on no page"
    assert os.path.isdir(os.path.join(RESULTS, "mnist"))
    assert render.main(["--check"]) == 0


def test_a_record_that_is_not_of_its_images_is_refused(tmp_path, monkeypatch):
    trials = [dict(TRIAL, name="fgsm", attacked=10, broken=7)]
    told = dict(num_examples=10, clean_accuracy=1.0, trials=trials)
    keep_suite(tmp_path / "robustness", "mnist-ensemble-0.1-vote", 0.1, 0.3, **told)
    per_image.write(str(tmp_path / "robustness" / "mnist-ensemble-0.1-vote.npz"), found(4, 10))
    monkeypatch.setattr(render, "RESULTS", str(tmp_path))
    with pytest.raises(EmpirError, match="vote.npz has as its accuracy under attack 0.4, and the"):
        render.main(["--check"], str(tmp_path))
