"""The table of what ensembles cost by count."""

import os

from benchmarks.pages import cost
from tests.support import RESULTS, ROOT
from tests.support.kept import cells


def test_the_pages_table_is_that_of_the_record():
    table = cost.markdown(os.path.join(RESULTS, "all"), None)
    rows = cells(table)
    assert {len(row) for row in rows} == {7}
    assert rows[3] == ["CIFARconv", "w4a2, w2a2, fp", "116,704", "79,200"] + [
        "+77.0 %",
        "+1.9 %",
        "+19.4 %",
    ]
    assert rows[-1] == ["the paper's claim", "", "", "", "< 25 %", "< 25 %", "< 25 %"]
    with open(os.path.join(ROOT, "docs", "cost.md"), encoding="utf8") as file:
        assert "<!-- overhead:all -->\n%s\n<!-- end -->" % table in file.read()
