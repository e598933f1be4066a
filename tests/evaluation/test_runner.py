"""How an attack's restarts are spread over batches."""

import numpy as np

from empir.data import Dataset
from empir.evaluation import runner
from empir.evaluation.graph import Setting
from empir.evaluation.specs import AttackSpec
from empir.evaluation.threat import Threat

COUNT = 4


class Graph:
    """In place of an `AttackGraph`: image i is misclassified from its restart FIRST[i] on."""

    FIRST = np.array([0, 2, 5, 9])

    def __init__(self):
        self.batches = []

    def attack(self, images, labels, index, *, starts, **_):
        """The decisions of restarts; logits tell which image and which restart they are of."""
        self.batches.append(len(index))
        number, row = np.divmod(index, COUNT)
        np.testing.assert_array_equal(starts, 10 * row)
        np.testing.assert_array_equal(labels, row)
        decision = np.where(number >= self.FIRST[row], labels + 1, labels)
        logits = (100 * row + number).astype(np.float32)
        close = np.zeros(len(index))
        return dict(adversarial=images, decision=decision, logits=logits, linf=close, l2=close)


def test_restarts_fill_a_batch_and_end_at_an_images_first_success():
    rows = np.arange(COUNT)
    images = np.full((COUNT, 1, 1, 1), 0.5, np.float32)
    data = Dataset("four", "test", images, rows, num_classes=9, clip_range=(0, 1), source="-")
    spec = AttackSpec("apgd", "apgd", restarts=7)
    for size, expected in ((8, [8, 6, 6]), (1, [4, 3, 3, 2, 2, 2, 1])):
        setting = Setting(open=None, data=data, threat=Threat("linf", 0.1), batch_size=size)
        graph, clean = Graph(), {"decision": rows, "starts": 10 * rows}
        found = runner.attack_examples(graph, setting, spec, rows, clean)
        assert found["restarts"].tolist() == [1, 3, 6, 7]
        assert found["logits"].tolist() == [0, 102, 205, 306]
        assert found["success"].tolist() == [True, True, True, False]
        assert graph.batches == expected
