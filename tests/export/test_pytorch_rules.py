"""The decision rules in PyTorch decide as the project's own, by logits that can be followed."""

import subprocess

import numpy as np

from empir.models import DECISION_RULES
from empir.models.ensemble import mean_logits, vote
from empir.runtime import tf
from tests.benchmarks.test_autoattack import one_thread
from tests.benchmarks.test_workers import PYTORCH, needs_pytorch
from tests.support import ROOT

__all__ = ["one_thread"]  # a fixture

IMAGES, CLASSES = 20, 5
#: Runs there. Each image's own logits are changed along the gradient until its decision changes.
PROGRAM = """
import sys
import numpy as np
import torch
from empir.export.pytorch_model import DECISIONS, followed, sizes_of

found = {}
for case, given in np.load(sys.argv[1]).items():
    for name in DECISIONS:
        logits = torch.tensor(given, requires_grad=True)
        reference, sizes = int(case.split(",")[1]), sizes_of(logits.detach())
        decide = lambda: DECISIONS[name](logits, reference)
        follow = lambda: followed(logits, name, reference, sizes)
        decided, largest = decide(), follow().argmax(1)
        changed = torch.zeros(len(given), dtype=torch.bool)
        for step in range(100):
            lead = follow()
            others = lead.scatter(1, decided[:, None], -torch.inf)
            lead = lead.gather(1, decided[:, None])[:, 0] - others.amax(1)
            (slope,) = torch.autograd.grad(lead.sum(), logits)
            unit = slope / slope.abs().amax((1, 2), keepdim=True)
            with torch.no_grad():
                logits -= given.std() / 10 * unit
            changed |= decide() != decided
        found[case + name] = np.stack([decided, largest, changed])
np.savez(sys.argv[2], **found)
"""


def decisions(logits, reference):
    """The project's decisions by rule; logits: [n, members, classes]."""
    with tf.Graph().as_default(), tf.Session() as session:
        members = [tf.constant(logits[:, i]) for i in range(logits.shape[1])]
        votes = [tf.argmax(member, axis=1) for member in members]
        probs = tf.add_n([tf.nn.softmax(member) for member in members])
        tensors = {
            "mean_logits": tf.argmax(mean_logits(members), axis=1),
            "mean_probs": tf.argmax(probs, axis=1),
            "vote": vote(votes, CLASSES, reference),
        }
        return session.run(tensors)


@needs_pytorch
def test_a_rules_largest_logit_is_its_decision_and_its_gradient_leads_away(
    tmp_path, random, one_thread
):
    given = {}
    for members in (1, 2, 3, 5):
        for reference in sorted({0, members - 1}):
            shape = (IMAGES, members, CLASSES)
            logits = {
                "smooth": random.normal(0, 3, shape),
                "saturated": random.normal(0, 100, shape),
                "tied": random.randint(0, 3, shape),
            }
            for kind, values in logits.items():
                given[f"{members},{reference},{kind},"] = values.astype(np.float32)
    paths = [str(tmp_path / name) for name in ("given.npz", "found.npz")]
    np.savez(paths[0], **given)
    subprocess.run([PYTORCH, "-B", "-c", PROGRAM, *paths], cwd=ROOT, check=True)
    with np.load(paths[1]) as found:
        assert len(found.files) == len(given) * len(DECISION_RULES)
        for case, logits in given.items():
            own = decisions(logits, int(case.split(",")[1]))
            for rule in DECISION_RULES:
                decided, largest, changed = found[case + rule]
                assert (largest == decided).all(), (case, rule)
                # A vote that more members win without a majority is not followed (`vote_leads`).
                assert changed.mean() >= (0.9 if len(logits[0]) > 3 else 1), (case, rule)
                # Equal up to rounding sums of probabilities may be ordered otherwise.
                exact = rule != "mean_probs" or "smooth" in case
                assert not exact or (own[rule] == decided).all(), (case, rule)
