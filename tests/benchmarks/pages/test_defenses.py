"""The table of other defenses."""

import json

from benchmarks.pages import defenses
from empir.experiments import EXPERIMENTS, TABLE_ATTACKS
from empir.report.results import ROWS


def test_defenses_are_rows_of_one_network_and_of_ensembles(tmp_path):
    measured = {"num_examples": 500, "clean_accuracy": 0.99, "adversarial_accuracy": 0.25}
    for row in ROWS:
        for attack in TABLE_ATTACKS[: 4 if row.model == "empir" else 3]:
            folder = tmp_path / "defenses" / "mnist" / "pgd" / row.folder / attack
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps(measured))
    table = defenses.markdown(str(tmp_path / "mnist"), EXPERIMENTS["mnist"])
    assert table.split("\n")[2:] == [
        "| PGD adversarial training | one network | 99.0 | 25.0 | 25.0 | 25.0 | - | - |",
        "|  | EMPIR, paper | 99.0 | 25.0 | 25.0 | 25.0 | 25.0 | 25.0 |",
        "|  | EMPIR, whitebox | 99.0 | 25.0 | 25.0 | 25.0 | 25.0 | 25.0 |",
    ]
