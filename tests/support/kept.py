"""Small records, written where tables look for them, and the cells of the tables."""

import json
import os

import numpy as np

from empir.models.ensemble import DECISION_RULES
from tests.support.reported import NETWORK, TRIAL, record

FIRST, DRAWN = {"sha256": "f"}, {"sha256": "d", "subset": "stratified", "subset_seed": 5}
TRIALS = [dict(TRIAL, name=name, accuracy=0.5) for name in ("noise", "fgsm", "apgd-ce")]


def cells(table):
    """The cells of a Markdown table, row by row."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")]


def result(clean, adversarial, examples=10000, members=(0.5, 0.25, 0.125), mean_l2=1.5):
    """What the tables read of a result.json."""
    return {
        "num_examples": examples,
        "clean_accuracy": clean,
        "adversarial_accuracy": adversarial,
        "accuracy": {
            "vote": {"clean": clean, "adversarial": adversarial},
            "mean_logits": {"clean": 0.97, "adversarial": 0.21},
            "mean_probs": {"clean": 0.96, "adversarial": 0.22},
        },
        "member_accuracy": [{"clean": 0.9, "adversarial": m} for m in members],
        "mean_l2": mean_l2,
        "seconds": {"build": 0.25, "clean": 3.0, "attack": 420.0, "total": 425.0},
        "peak_memory_mb": 512.3,
    }


def keep_attacks(folder, row, records):
    """Write records as evaluations do: folder/<row>/<attack>/result.json."""
    for attack, content in records.items():
        path = os.path.join(str(folder), row, attack)
        os.makedirs(path)
        with open(os.path.join(path, "result.json"), "w") as file:
            json.dump(content, file)


BASELINE = {
    "cw": result(0.99, 0.03, 1000),
    "fgsm": result(0.9887, 0.1532),
    "bim": result(0.99, 0.01, 1000),
    "pgd": result(0.99, 0.02, 1000),
}
PAPER = {"fgsm": result(0.9889, 0.6706, mean_l2=5.6651), "pgd": result(0.98, 0.2, 1000)}


def keep_record(base, name, record):
    """Write a record as the file NAME.json."""
    path = base / (name + ".json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))


def keep_suite(base, name, eps, accuracy, data=DRAWN, **more):
    """Write a suite's record, with keys of `reported.RECORD`, by the name of its file."""
    rule = name.rpartition("-")[2]
    rule = rule if rule in DECISION_RULES else "mean_logits"
    members = [NETWORK] * (1 if "baseline" in name else 2)
    told = dict(eps=eps, worst_case_accuracy=accuracy, combine=rule, members=members, data=data)
    keep_record(base, name, record(**dict(dict(told, trials=TRIALS), **more)))


def keep_pgd(base, name, accuracies, data=DRAWN, **more):
    """Write a record of PGD: adversarial accuracies by rule; the clean ones are 0.9."""
    accuracy = {rule: dict(clean=0.9, adversarial=value) for rule, value in accuracies.items()}
    told = dict(accuracy=accuracy, data=data, num_examples=1000, seed=7, combine="mean_logits")
    keep_record(base, "pgd/" + name, dict(told, **more))


def keep_outside(base, name, accuracy, images=1000, transferred=True, suite=0.01, **more):
    """Write a record of AutoAttack on the first of 1,000 images; three succeed by it alone.

    `suite` is the accuracy that the suite left then; `more` goes to the part about AutoAttack.
    """
    told = dict(images=images, num_examples=1000, data=DRAWN, suite_accuracy=suite)
    if transferred:
        told.update(transferred={"images": 990, "adversarial": 989})
    attacks = [{"seconds": 1000.2}, {"seconds": 300.3}]
    auto = dict(accuracy=accuracy, attacks=attacks, broken_by_it_alone=3, **more)
    keep_record(base, "outside/" + name, dict(told, autoattack=auto))


def found(correct, total):
    """What `per_image` writes of one attack, after which so many of all images are correct."""
    label = np.zeros(total, np.int64)
    hit = np.arange(total) >= correct
    arrays = {f"clean_{rule}": label for rule in DECISION_RULES}
    arrays.update(rule=np.array(["vote"]), attacks=np.array(["fgsm"]), number=label, label=label)
    arrays.update(clean_members=label[:, None], members=label[:, None], decision=hit.astype(int))
    arrays.update(first=hit - 1, l2=label * 0.1, linf=label * 0.1)
    every = np.ones((1, total), bool)
    return dict(arrays, attacked=every, succeeded=hit[None], counted=hit[None])
