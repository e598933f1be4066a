"""One table of attacks: a class of CleverHans' interface joins the command line by one row."""

import json
import os
import re

import numpy as np
import pytest
from cleverhans import attacks as cleverhans_attacks

from empir import attacks
from empir.commands import attack as command
from empir.commands import attack_flags, commandline
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS, default_parameters
from tests.support.in_process import run_here
from tests.support.released import save_members
from tests.support.scripts import RESULT

CLIP = dict(clip_min=0.0, clip_max=1.0)
LINF = dict(eps=0.3, eps_iter=0.01, nb_iter=40, **CLIP)

#: The paper's parameters, and the flags that change them.
PARAMETERS = {
    "cw": (
        dict(
            binary_search_steps=1,
            max_iterations=50,
            learning_rate=0.1,
            initial_const=10.0,
            confidence=0.0,
            abort_early=True,
            batch_size=7,
            **CLIP,
        ),
        {"attack_iterations"},
    ),
    "fgsm": (dict(eps=0.3, **CLIP), {"eps"}),
    "bim": (LINF, {"eps", "eps_iter", "nb_iter"}),
    "pgd": (dict(LINF, rand_init=True, seed=1237), {"eps", "eps_iter", "nb_iter"}),
    "jsma": (dict(theta=1.0, gamma=0.1, **CLIP), set()),
}


@pytest.fixture
def table(monkeypatch):
    """A copy of the table that a test may add to."""
    monkeypatch.setattr(attacks, "TABLE", dict(attacks.TABLE))


@pytest.mark.parametrize("attack", sorted(PARAMETERS))
def test_the_papers_parameters_and_the_flags_that_set_them(attack):
    expected, read = PARAMETERS[attack]
    assert default_parameters(EXPERIMENTS["mnist"], attack, 7) == expected
    assert set(attacks.row(attack).sources().values()) & set(attack_flags.ATTACK_FLAGS) == read


ROWS = [
    # class, parameters without the range of images, takes y, takes y_target
    ("MomentumIterativeMethod", dict(eps=0.3, eps_iter=0.01, nb_iter=40, decay_factor=1.0), 1, 1),
    ("VirtualAdversarialMethod", dict(eps=0.3, num_iterations=1, xi=1e-6), 0, 0),
    ("DeepFool", dict(nb_candidate=10, overshoot=0.02, max_iter=50), 0, 0),
    (
        "LBFGS",
        dict(batch_size=7, binary_search_steps=5, max_iterations=1000, initial_const=0.01),
        0,
        1,
    ),
]


@pytest.mark.parametrize("name, parameters, labels, targets", ROWS, ids=[r[0] for r in ROWS])
def test_what_a_class_takes_is_read_from_it(table, name, parameters, labels, targets):
    attacks.register("new", getattr(cleverhans_attacks, name))
    assert default_parameters(EXPERIMENTS["mnist"], "new", 7) == dict(parameters, **CLIP)
    row = attacks.row("new")
    assert (row.takes("y"), row.takes("y_target"), row.takes("index")) == (labels, targets, False)
    # A radius in another norm bounds no pixel.
    assert row.ball_order(parameters) == (np.inf if name == "MomentumIterativeMethod" else None)


@pytest.mark.parametrize("name", ["cw", "0", "MIM", ""])
def test_a_name_that_cannot_be_added_is_refused(table, name):
    with pytest.raises(EmpirError, match="the attack %r cannot be added" % name):
        attacks.register(name, cleverhans_attacks.MomentumIterativeMethod)


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run the MNIST script on narrow members in this process: (as of a process, record)."""
    monkeypatch.chdir(tmp_path)
    save_members(str(tmp_path))

    def run_script(line):
        argv, setup = ["mnist_attack.py"] + line.split(), lambda: command.setup("mnist")
        done = run_here(lambda: commandline.run_main(setup, argv), capfd)
        record = None
        if os.path.exists("out/result.json"):
            with open("out/result.json") as file:
                record = json.load(file)
        return done, record

    return run_script


@pytest.mark.slow
@pytest.mark.parametrize(
    "line, name, target",
    [
        ("--model_path=model3", "decision", False),
        ("--model_path=model3 --targeted", "decision", True),
        ("--members=w2a4:model1,fp:model3 --eps=0.1", "decision", False),
    ],
)
def test_a_class_in_the_table_runs_from_the_command_line(run, table, line, name, target):
    attacks.register("mim", cleverhans_attacks.MomentumIterativeMethod)
    line += " --nb_filters=4 --nb_samples=6 --noprogress --out=out --attack=mim --nb_iter=2"
    told, record = run(line)
    assert told.returncode == 0, told.stderr
    assert RESULT.match(told.stdout.split("\n", 1)[1] if target else told.stdout)
    assert "no effect" not in told.stderr
    eps = 0.1 if "--eps" in line else 0.3
    expected = dict(eps=eps, eps_iter=0.01, nb_iter=2, decay_factor=1.0, **CLIP)
    assert expected.items() <= record["attack"].items()
    assert record["attack"]["name"] == "mim" and record["attack"]["targeted"] is target
    assert 0 < record["mean_linf"] <= 0.02 + 1e-6


REFUSED = [
    ("DeepFool", "--model_path=model3 --targeted", "the attack new takes no targets"),
    (
        "MomentumIterativeMethod",
        "--members=w2a4:model1,fp:model3 --protocol=paper",
        "attack_target=released is defined for the attacks bim, cw, fgsm, jsma, pgd, not for 'new'",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("name, line, says", REFUSED, ids=[row[0] for row in REFUSED])
def test_what_an_attack_does_not_take_is_refused(run, table, name, line, says):
    attacks.register("new", getattr(cleverhans_attacks, name))
    told, record = run(line + " --nb_filters=4 --nb_samples=2 --attack=new")
    assert told.returncode == 2 and re.search(says, told.stderr.splitlines()[-1]) and record is None


@pytest.mark.slow
def test_targets_are_drawn_for_what_takes_nothing_else(run, table):
    attacks.register("lbfgs", cleverhans_attacks.LBFGS, parameters=dict(max_iterations=1))
    told, record = run("--model_path=model3 --nb_filters=4 --nb_samples=2 --attack=lbfgs --out=out")
    assert told.returncode == 0, told.stderr
    with np.load("out/examples.npz") as archive:
        assert (archive["target"] != archive["clean_mean_logits"]).all()
