"""The console command: one word says what to do, and everything else is as of that command."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest

import empir
from empir.commands import main as console
from empir.records import provenance
from tests.support import ROOT
from tests.support.released import save_members
from tests.support.scripts import RESULT, run_module


@pytest.fixture
def call(empir_command, monkeypatch, tmp_path):
    """Run `empir LINE` in this process: line -> (status, standard output, standard error)."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no download: the embedded sample
    monkeypatch.setenv("no_proxy", "")

    def run(line):
        done = empir_command(line, tmp_path)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_lists_every_command_with_a_line(call, word):
    status, out, err = call(word)
    assert (status, err) == (0, "") and max(map(len, out.splitlines())) <= 100
    for name, command in console.COMMANDS.items():
        assert re.search(r"^  %s +%s$" % (name, re.escape(command.about)), out, re.MULTILINE)


@pytest.mark.parametrize(
    "line, says",
    [
        ("", "a command is missing: choose from attack, train, robustness"),
        ("atack", "the command 'atack' is unknown: choose from attack, train"),
        ("--dataset=mnist", "the command '--dataset=mnist' is unknown"),
        ("attack --dataset=svhn", "--dataset=svhn: choose from mnist, cifar10, imagenet"),
        ("attack --dataset", "dataset"),
        ("attack --eps=1/0", "--eps=1/0: write a finite number >= 0, e.g. 0.1 or 8/255"),
        ("train", "--train_only needs --model_path"),
        ("cost --bits=2", "Unknown command line flag 'bits'"),
        ("checkpoints verify", "usage: "),
        ("convert", "--source"),
        ("convert --source=x --split=val --out=y --seed=-1", "--seed=-1: write 0..2^32 - 1"),
        ("convert --source=x --split=val --out=", "--out"),
    ],
)
def test_a_wrong_line_is_refused_in_one(call, line, says):
    status, out, err = call(line)
    assert (status, out) == (2, "") and re.match(r"error: [^\n]+\n\Z", err), err
    assert says in err


def test_the_version(call):
    assert call("--version") == (0, empir.__version__ + "\n", "")


@pytest.mark.parametrize("name", sorted(console.COMMANDS))
def test_each_command_has_its_own_help(call, name):
    with_dataset = ("attack", "train", "reproduce", "robustness", "cost", "export")
    status, out, err = call(name + " --help")
    assert (status, err) == (0, "")
    assert ("--out" in out) == (name not in ("checkpoints", "compare"))
    assert ("--dataset:" in out) == (name in with_dataset)


@pytest.mark.slow
def test_attack_is_the_example_script(call, tmp_path):
    save_members(str(tmp_path))
    line = "--members=w2a4:model1,fp:model3 --nb_filters=4 --nb_samples=5 --attack=fgsm --eps=8/255"
    status, out, err = call("attack %s --dataset=mnist --noprogress --out=out" % line)
    assert status == 0 and RESULT.match(out), err
    with open("out/result.json") as file:
        assert json.load(file)["attack"]["eps"] == 8 / 255


def test_train_leaves_a_checkpoint_of_the_dataset(call, tmp_path, monkeypatch):
    (tmp_path / "member").mkdir()
    trained = []
    monkeypatch.setattr("empir.commands.attack.run", lambda chosen: trained.append(chosen.dataset))
    assert call("train --model_path=member --dataset cifar10")[0] == 0
    assert trained == ["cifar10"]


def test_the_installed_command_is_this_module_and_so_is_its_record(monkeypatch):
    with open(os.path.join(ROOT, "setup.py")) as file:
        (module, function) = re.search(r'"empir = ([\w.]+):(\w+)"', file.read()).groups()
    assert getattr(importlib.import_module(module), function) is console.main
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/empir", "attack", "--out=a b"])
    assert provenance.command() == "empir attack '--out=a b'"


@pytest.mark.slow
def test_commands_define_their_flags_without_tensorflow():
    """TensorFlow reads the number of threads when it is loaded, and loading it takes seconds."""
    script = "import sys; from empir.commands.main import COMMANDS; "
    script += "[command.load() for command in COMMANDS.values()]; "
    script += "print('tensorflow' in sys.modules)"
    environment = dict(os.environ, PYTHONPATH=ROOT)
    assert subprocess.check_output([sys.executable, "-c", script], env=environment) == b"False\n"


@pytest.mark.slow
def test_python_m_empir_is_the_same():
    told = run_module("empir", "cost --dataset=mnist")
    assert told.returncode == 0 and told.stdout.startswith("MNISTconv")
