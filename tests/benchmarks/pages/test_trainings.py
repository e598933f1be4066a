"""The tables of the study's parts, of records that are made up."""

import json
import os

import numpy as np
import pytest

from benchmarks.pages import trainings
from benchmarks.study import plan
from empir.errors import EmpirError
from empir.evaluation import per_image
from empir.experiments import EXPERIMENTS
from tests.support.kept import cells, found
from tests.support.reported import NETWORK, TRIAL, record

MNIST, IMAGES = EXPERIMENTS["mnist"], 20
#: (number of correct images, rule) -> the file of an evaluation.
WRITTEN = {}


@pytest.fixture
def results(tmp_path):
    """An empty folder of results."""
    (tmp_path / "mnist").mkdir()
    return tmp_path


def keep(results, part, one, correct):
    """Keep the records of an evaluation of the plan, after which so many images are correct."""
    folder = results / "study" / part
    folder.mkdir(parents=True, exist_ok=True)
    rule = next((rule for rule in plan.SUITE_RULES if one.setting.endswith(rule)), "vote")
    shares = dict(clean=1.0, adversarial=correct / IMAGES)
    if one.kind == "suite":
        trials = [dict(TRIAL, name="fgsm", attacked=IMAGES, broken=IMAGES - correct)]
        told = record(worst_case_accuracy=correct / IMAGES, trials=trials)
    else:
        told = dict(adversarial_accuracy=correct / IMAGES, accuracy={rule: shares})
        told.update(member_accuracy=[shares], members=[NETWORK], mean_l2=1.0, seed=1, data={})
        told.update(seconds={"total": 1.0}, peak_memory_mb=1.0, attack={"eps": 0.3})
    told.update(num_examples=IMAGES, clean_accuracy=1.0, combine=rule)
    (folder / f"{one.name}.json").write_text(json.dumps(told))
    path = folder / f"{one.name}.npz"
    if (correct, rule) not in WRITTEN:
        per_image.write(str(path), dict(found(correct, IMAGES), rule=np.array([rule])))
        WRITTEN[correct, rule] = path.read_bytes()
    path.write_bytes(WRITTEN[correct, rule])


def keep_part(results, part, correct):
    """Keep those of a whole part on MNIST; `correct` gives the number of a subject and setting."""
    for one in plan.evaluations(part):
        if one.dataset == "mnist":
            keep(results, part, one, correct(one.subject, one.setting))


def of_seeds(subject, setting):
    run = int(subject[-1])
    if setting == "pgd-whitebox":
        return 4 + 2 * run if subject.startswith("empir") else 4
    return 10


def table(results, of=trainings.seeds):
    return cells(of(str(results / "mnist"), MNIST))


def test_a_row_has_the_spread_over_trainings_and_the_difference_with_its_interval(results):
    keep_part(results, "seeds", of_seeds)
    lines = table(results)
    assert len(lines) == 2 + 1 + 8 + 2  # the head, clean images, the table's attacks, two rules
    row = next(line for line in lines if line[0] == "PGD, protocol whitebox")
    assert row[1:3] == ["40.0, 15.8 (20.0-60.0)", "20.0, 0.0 (20.0-20.0)"]
    points, low, _, high = row[3].replace("(", "").replace(")", "").split()
    assert float(points) == 20 and float(low) < 0 < 40 < float(high) < 60
    assert row[4] == "17.5 / 0.8"


def test_a_row_waits_for_all_its_trainings(results):
    assert trainings.seeds(str(results / "mnist"), MNIST) == trainings.MISSING
    keep_part(results, "seeds", of_seeds)
    os.remove(results / "study" / "seeds" / "mnist-empir-3-0.1-vote.json")
    assert "suite at 0.1, vote" not in {line[0] for line in table(results)}


def test_the_evaluations_that_are_planned_and_made_are_counted(results):
    keep_part(results, "seeds", of_seeds)
    os.remove(results / "study" / "seeds" / "mnist-empir-3-0.1-vote.json")
    lines = {
        tuple(line[:2]): line[2:] for line in cells(trainings.progress(str(results / "all"), None))
    }
    assert lines["`seeds`", "MNIST"] == ["74", "75"] and lines["`seeds`", "CIFAR-10"] == ["0", "90"]
    assert lines["`alexnet`", "CIFAR-10 as JPEGs"] == ["0", "20"]


def test_records_of_other_images_are_refused(results):
    keep_part(results, "seeds", of_seeds)
    path = str(results / "study" / "seeds" / "mnist-empir-1-pgd-paper.npz")
    per_image.write(
        path, dict(found(10, IMAGES), rule=np.array(["vote"]), number=1 + np.arange(IMAGES))
    )
    with pytest.raises(EmpirError, match="empir-1-pgd-paper.npz is of other images"):
        table(results)


def test_empir_is_compared_with_ensembles_of_one_precision(results):
    keep_part(results, "seeds", lambda *_: 10)
    keep_part(results, "ensembles", lambda subject, _: {"wide": 4}.get(subject[:4], 12))
    rows = {tuple(line[:2]): line[2:] for line in table(results, trainings.ensembles)}
    ten, wide = "50.0, 0.0 (50.0-50.0)", "20.0, 0.0 (20.0-20.0)"
    found_of = rows["suite at 0.1, vote", "one full-precision network with as many weights"]
    assert found_of[:2] == [ten, wide] and found_of[2].startswith("+30.0 (")
    assert rows["PGD, protocol paper", "three full-precision members"][2].startswith("-10.0 (")
    low = "three members of one low precision"
    assert ("clean images, vote", low) in rows and ("PGD, protocol whitebox", low) in rows
    assert ("PGD, protocol paper", low) not in rows


@pytest.mark.slow
def test_members_and_precisions_are_tables_of_single_evaluations(results):
    keep_part(results, "members", lambda subject, _: int(subject[0]))
    assert table(results, trainings.members)[4] == ["3"] + ["15.0"] * 4
    keep_part(results, "precisions", lambda subject, _: 2 * (subject == "one-w2a4"))
    lines = table(results, trainings.precisions)
    second = [line for line in lines if line[0] == "w2"]
    assert [line[1:] for line in second] == [
        ["100.0"] * 5,
        *[["0.0", "0.0", "10.0", "0.0", "0.0"]] * 2,
        *[["0.0"] * 5] * 2,
    ]


def test_alexnets_members_and_empir_are_columns(results):
    found_of = {"empir": 15, "model3-fp": 10}
    for one in plan.evaluations("alexnet"):
        if not one.setting.startswith("bim"):
            keep(results, "alexnet", one, found_of.get(one.subject, 5))
    lines = cells(trainings.alexnet(str(results / "imagenet"), EXPERIMENTS["imagenet"]))
    assert lines[0] == [
        "",
        "w2a2",
        "w4a4",
        "fp",
        "EMPIR, protocol paper",
        "EMPIR, protocol whitebox",
    ]
    rows = {line[0]: line[1:] for line in lines[2:]}
    assert list(rows) == ["clean images", "CW", "FGSM", "PGD"]
    low, full, empir = "25.0 (11.2-46.9)", "50.0 (29.9-70.1)", "75.0 (53.1-88.8)"
    assert rows["PGD"] == [low, low, full, empir, empir]
    assert rows["clean images"] == ["100.0 (83.9-100.0)"] * 5


def test_defended_members_stand_beside_empir(results):
    keep_part(results, "defences", lambda subject, _: 10 if subject == "empir" else 4)
    rows = {line[0]: line[1:] for line in table(results, trainings.defences)}
    kept, p = ["50.0", "20.0", "20.0", "20.0"], "0.031"
    assert rows["PGD, protocol paper"] == rows["suite at 0.3, vote"] == [*kept, p]
    assert rows["clean images, vote"] == ["100.0"] * 4 + ["1"]
