"""How an attack's restarts are spread over batches."""

from types import SimpleNamespace

import numpy as np

from empir.evaluation import runner
from empir.evaluation.specs import AttackSpec


def test_restarts_fill_a_batch_and_end_at_an_images_first_success(monkeypatch):
    first_success, batches = np.array([0, 2, 5, 9]), []

    def attack_once(graph, setting, spec, rows, numbers, clean):
        batches.append(len(rows))
        np.testing.assert_array_equal(clean["ranking"], 10 * rows)
        return {"success": numbers >= first_success[rows], "image": 100 * rows + numbers}

    monkeypatch.setattr(runner, "_attack_once", attack_once)
    spec, rows = AttackSpec("apgd", "apgd", restarts=7), np.arange(4)
    clean = {"ranking": 10 * rows}
    for size, expected in ((8, [8, 6, 6]), (1, [4, 3, 3, 2, 2, 2, 1])):
        setting = SimpleNamespace(batch_size=size)
        found = runner.attack_examples(None, setting, spec, rows, clean)
        assert found["restarts"].tolist() == [1, 3, 6, 7]
        assert found["image"].tolist() == [0, 102, 205, 306]
        assert found["success"].tolist() == [True, True, True, False]
        assert batches == expected
        batches.clear()
