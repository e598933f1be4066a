"""The shell scripts: paths are the caller's, flags are checked before anything is made."""

import os
import shutil
import subprocess

import pytest

from tests.support import ROOT

#: In place of the environment's Python: prints its folder and command line, refuses --foo.
STUB = """#!/usr/bin/env bash
for word in "$@"; do
  if [ "$word" = --foo ]; then echo "error: Unknown command line flag 'foo'" >&2; exit 2; fi
done
echo "$PWD|$*" >>"$CALLS"
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout of the scripts alone, whose Python is the stub."""
    shutil.copytree(os.path.join(ROOT, "scripts"), str(tmp_path / "checkout" / "scripts"))
    folder = tmp_path / "checkout" / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").write_text(STUB)
    (folder / "python").chmod(0o755)
    for name in ("pytorch.sh", "setup.sh"):  # which would install
        (tmp_path / "checkout" / "scripts" / name).write_text("mkdir .venv-pytorch\n")
        (tmp_path / "checkout" / "scripts" / name).chmod(0o755)
    (tmp_path / "caller").mkdir()
    return tmp_path / "checkout"


def run(checkout, folder, script, line):
    """Run a script from a folder: (status, standard error, words of each call of Python)."""
    calls = str(checkout / "calls")
    done = subprocess.run(
        ["bash", str(checkout / "scripts" / script)] + line.split(),
        cwd=str(folder),
        env=dict(os.environ, CALLS=calls),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    told = []
    if os.path.exists(calls):
        with open(calls) as file:
            told = [line.rstrip("\n").split("|", 1) for line in file]
    assert {where for where, _ in told} <= {str(checkout)}
    return done.returncode, done.stderr, [words.split() for _, words in told], done.stdout


PATHS = [
    # script, arguments, words of its first call; C stands for the caller's folder
    ("reproduce_mnist.sh", "--data_dir=a --out=/b", "--data_dir=C/a --out=/b"),
    ("reproduce_mnist.sh", "--data_dir a --out b", "--data_dir=C/a --out=C/b"),
    ("reproduce_mnist.sh", "--members=m --nb_samples 3", "--members=C/m --nb_samples 3"),
    ("reproduce_mnist.sh", "--members_dir=m", "--members_dir=C/m"),
    ("reproduce_cifar10.sh", "--noprogress --out=x=y", "--noprogress --out=C/x=y"),
    ("reproduce_tramer.sh", "--data_dir=a", "--data_dir=C/a --attack=pgd --true_labels"),
    ("reproduce_imagenet.sh", "tf m --out=o", "--imagenet_path=C/tf --members_dir=C/m --out=C/o"),
    ("train_mnist.sh", "dir --logdir=l", "--model_path=C/dir/model1-w2a4 --logdir=C/l"),
    (
        "train_mnist.sh",
        "--nb_epochs 2",
        "--model_path=runs/mnist-members/model1-w2a4 --nb_epochs 2",
    ),
    ("train_alexnet.sh", "tf dir", "--imagenet_path=C/tf --model_path=C/dir/model1-w2a2"),
    ("benchmark.sh", "--data_dir=a --out=b", "--data_dir=C/a --out=C/b --check_flags"),
    (
        "reproduce_robustness.sh",
        "outside --data_dir=d --outside=w2a4/fp:x,fp:/y",
        "--data_dir=C/d/mnist --outside=w2a4/fp:C/x,fp:/y",
    ),
    (
        "reproduce_defenses.sh",
        "dir --data_dir=d --out=o",
        "--data_dir=C/d/mnist --out=C/o/mnist/none",
    ),
]


@pytest.mark.parametrize("script, line, expected", PATHS, ids=[" ".join(r[:2]) for r in PATHS])
def test_paths_are_the_callers(checkout, tmp_path, script, line, expected):
    """The runs that the scripts start do nothing here, so that a script may then fail."""
    caller = tmp_path / "caller"
    calls = run(checkout, caller, script, line)[2]
    (checkout / "calls").unlink()
    inside = run(checkout, checkout, script, line)[2]
    for words, folder in ((calls[0], str(caller) + "/"), (inside[0], "")):
        wanted = [w.replace("C/", folder) for w in expected.split()]
        assert set(wanted) <= set(words), words


@pytest.mark.parametrize("script", ["benchmark.sh", "reproduce_mnist.sh", "train_mnist.sh"])
def test_a_wrong_flag_is_refused_before_anything_is_made(checkout, script):
    status, err, calls, _ = run(checkout, checkout, script, "--foo")
    assert status == 2 and not calls and "'foo'" in err.splitlines()[-1]
    assert not (checkout / ".venv-pytorch").exists()


@pytest.mark.parametrize(
    "line, first, count",
    [
        ("--list", "mnist-ensemble-0.1-vote", None),
        ("cifar10 --list", "cifar10-ensemble-8-255-vote", None),
        ("--list --only=*-2-255-mean_probs", "cifar10-ensemble-2-255-mean_probs", 2),
        ("--list --only=pgd/mnist-*-0.3-*", "pgd/mnist-ensemble-0.3-paper", 3),
        ("--list --only=*-l2-*", "mnist-ensemble-l2-1.5-vote", 6),
        ("outside --list --only=*baseline*", "outside/mnist-baseline-0.1", 5),
        ("outside --list --only=*-vote", "outside/mnist-ensemble-0.1-vote", 5),
    ],
)
def test_rows_of_the_robustness_records_are_chosen_by_name(checkout, line, first, count):
    status, _, calls, out = run(checkout, checkout, "reproduce_robustness.sh", line)
    names = out.splitlines()
    assert (status, calls, names[0]) == (0, [], first)
    assert len(names) == len(set(names)) and count in (None, len(names))


@pytest.mark.parametrize(
    "name, told",
    [
        ("mnist-ensemble-0.1-vote", {"--eps=0.1", "--combine=vote"}),
        ("cifar10-baseline-l2-0.25", {"--eps=0.25", "--norm=l2"}),
    ],
)
def test_a_row_goes_to_runs_and_its_record_to_results(name, told, checkout):
    folder = checkout / "runs" / "robustness" / name
    folder.mkdir(parents=True)
    (checkout / "results" / "robustness").mkdir(parents=True)
    for file in ("images.npz", "result.json"):
        (folder / file).write_text(file)
    line = f"--only={name} --nb_samples=20"
    status, _, calls, _ = run(checkout, checkout, "reproduce_robustness.sh", line)
    assert status == 0 and [words[1:3] for words in calls] == [
        ["empir", "robustness"],
        ["benchmarks.pages"],
    ]
    assert told < set(calls[0]) and calls[0][-1] == "--nb_samples=20"
    kept = checkout / "results" / "robustness"
    assert [(kept / (name + end)).read_text() for end in (".npz", ".json")] == [
        "images.npz",
        "result.json",
    ]


def test_a_row_that_there_is_not_is_refused(checkout):
    status, err, calls, _ = run(checkout, checkout, "reproduce_robustness.sh", "--only=svhn-*")
    assert (status, calls) == (2, []) and err.startswith("error: --only=svhn-*: no row has such")


@pytest.mark.parametrize("script", sorted({row[0] for row in PATHS}))
def test_help_is_the_head_of_the_script(checkout, script):
    with open(str(checkout / "scripts" / script)) as file:
        text = file.read()
    status, err, calls, out = run(checkout, checkout, script, "--help")
    assert (status, err, calls) == (0, "", [])
    lines = text.split("set -euo")[0].splitlines()[1:]
    assert out.splitlines() == [line[2:] for line in lines]
