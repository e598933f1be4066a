"""README and docs/: every command and flag exists, and the blocks that are marked so run."""

import inspect
import json
import os
import re
import subprocess
import sys

import pytest
from absl import flags

from benchmarks import (
    autoattack,
    cluster,
    exactness,
    exported,
    flips,
    inference,
    speed,
    step_profile,
    throughput,
)
from empir.commands import attack, commandline, cost, export, importing
from empir.commands import main as console
from empir.commands import reproduce, robustness
from tests.support import ROOT
from tests.support.documented import blocks, pages
from tests.support.forks import forked
from tests.support.scripts import remove_flags

#: Commands of absl flags: what defines their flags.
SETUPS = {
    "empir.commands.cost": cost.setup,
    "empir.commands.export": export.setup,
    "empir.commands.importing": importing.setup,
    "empir.commands.reproduce": reproduce.setup,
    "empir.commands.robustness": robustness.setup,
    "benchmarks.autoattack": autoattack.setup,
    "benchmarks.exactness": exactness.setup,
    "benchmarks.inference": inference.setup,
    "benchmarks.exported": exported.setup,
    "benchmarks.flips": flips.setup,
    "benchmarks.cluster": cluster.setup,
    "benchmarks.speed": speed.setup,
    "benchmarks.step_profile": step_profile.setup,
    "benchmarks.throughput": throughput.setup,
}
EXAMPLES = {"mnist": "mnist", "cifar10": "cifar10", "alexnet": "imagenet"}
#: Commands of words: the words that may follow, and flags.
WORDS = {
    "benchmarks.pages": r"(--check)?",
    "empir.commands.checkpoints": r"verify [^-].*|manifest",
    "empir.commands.compare": r"[^-]\S* [^-]\S*",
    "empir.commands.merge": r"([^-]\S* )+--out=\S+( --mixed)?",
    "empir.data.convert": r"(--(source|split|out|labels)=\S+ ?)+",
}
#: Programs that are not this project's.
OTHERS = "docker git cd rm mkdir pip pre-commit dask-scheduler dask-worker openssl".split()


def example(dataset):
    """What defines the flags of a dataset's example script."""
    return lambda: attack.setup(dataset)


def check_flags(setup, words):
    """Parse a command line's flags, values included; the flags are removed afterwards."""
    try:
        setup()
        rest = flags.FLAGS(["program"] + commandline.join_bit_lists(words))
    finally:
        remove_flags()
    assert len(rest) == 1, rest


def check_module(module, words):
    """A command line of `python -m MODULE`."""
    if module in WORDS:
        assert re.fullmatch(WORDS[module], " ".join(words)), words
    else:
        check_flags(SETUPS[module], words)


def check_console(words):
    """A command line of `empir`."""
    if words[:1] == ["--help"]:
        return
    command, rest = console.COMMANDS[words[0]], words[1:]
    if rest == ["--help"]:
        return
    module = command.function.partition(":")[0]
    if command.by_dataset:
        dataset = [word for word in rest if word.startswith("--dataset=")]
        rest = [word for word in rest if word not in dataset]
        name = (dataset or ["=mnist"])[0].partition("=")[2]
        check_flags(example("mnist" if ":" in name else name), rest)  # of a file: it is not there
    else:
        check_module(module.replace(".__main__", ""), rest)


def check_script(path, words):
    """A command line of a shell script: its flags are its own, or of what it calls."""
    assert os.access(os.path.join(ROOT, path), os.X_OK), path
    with open(os.path.join(ROOT, path)) as file:
        text = file.read()
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in text, "%s does not tell of %s" % (path, word)


def check(words):
    """One command line of a block; an error if its program or a flag does not exist."""
    program, rest = words[0], words[1:]
    if program == "empir":
        check_console(rest)
    elif program == "python" and rest[0] == "-m":
        check_module(rest[1], rest[2:])
    elif program == "python" and rest[0].startswith("examples/"):
        name = re.fullmatch(r"examples/(\w+)_attack\.py", rest[0]).group(1)
        check_flags(example(EXAMPLES[name]), rest[1:])
    elif program == "python" and rest[0] == "-c":
        compile(rest[1], "block", "exec")
    elif program.startswith("./scripts/"):
        check_script(program[2:], rest)
    else:
        assert program in OTHERS, "no such command: %s" % program


def test_every_command_and_every_flag_of_the_pages_exists():
    wrong = []
    for block in blocks("bash"):
        for words in block.commands():
            try:
                check(words)
            except (AssertionError, KeyError, flags.Error) as error:
                wrong.append("%s: %s: %r" % (block, " ".join(words), error))
    assert not wrong, "\n".join(wrong)


def test_a_command_or_flag_that_does_not_exist_is_found():
    for line in (
        "emppir attack",
        "empir attak",
        "empir costs",
        "empir cost --bits=2",
    ):
        with pytest.raises((AssertionError, KeyError, flags.Error)):
            check(line.split())
    with pytest.raises(AssertionError):
        check(["./scripts/reproduce_mnist.sh", "--foldr=x"])


def test_flags_in_sentences_exist():
    known = set()
    for setup in list(SETUPS.values()) + [example(name) for name in EXAMPLES.values()]:
        before = set(flags.FLAGS)
        setup()
        known |= set(flags.FLAGS) - before
        remove_flags()
    known |= {"no" + name for name in known} | {
        "help",
        "source",
        "split",
        "labels",
        "check",
        "mixed",
    }
    known |= {"environment", "gpu", "test", "fast", "debug", "trust"}
    known |= {"scale"}  # of the original, without effect there, and not taken here
    for page in pages():
        with open(os.path.join(ROOT, page), encoding="utf8") as file:
            found = set(re.findall(r"`--(\w+)", file.read()))
        assert found <= known, "%s names flags that do not exist: %s" % (page, found - known)


def test_every_fence_has_a_language():
    assert not [str(block) for block in blocks("")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that looks like a clone to commands, for what they write."""
    path = tmp_path_factory.mktemp("blocks")
    for name in ("checkpoints", "examples", "scripts"):
        (path / name).symlink_to(os.path.join(ROOT, name))
    return path


#: Runs commands, given as a JSON list of (place, words) on standard input, until one fails. Those
#: of Python run in forks of one process that has imported TensorFlow and Matplotlib: each is as if
#: in a process of its own, without the time of these imports.
RUNNER = (
    "import functools, json, os, runpy, subprocess, sys, traceback\n"
    + inspect.getsource(forked)  # not imported: commands are to see nothing of the tests
    + """
import matplotlib.figure
from empir.runtime import keras, tf

def run(words):
    if words[0] == "empir":
        sys.argv = words
        runpy.run_module("empir", run_name="__main__", alter_sys=True)
    elif words[:2] == ["python", "-c"]:
        sys.argv = words[1:2]
        exec(compile(words[2], "block", "exec"), {"__name__": "__main__"})
    else:
        sys.exit(subprocess.call(words))

for place, words in json.load(sys.stdin):
    if forked(functools.partial(run, words)):
        sys.exit("%s failed: %s" % (place, " ".join(words)))
"""
)


@pytest.mark.slow
def test_the_blocks_that_are_marked_so_run(folder):
    """In the order of the pages, without a network."""
    marked = [block for block in blocks() if block.marker == "run"]
    assert {block.page for block in marked} >= {"README.md", "docs/extending.md"}
    commands = []
    for block in marked:
        if block.title:
            (folder / block.title).write_text(block.text)
        elif block.language == "bash":
            commands += [(str(block), words) for words in block.commands()]
        else:
            commands.append((str(block), ["python", "-c", block.text]))
    process = subprocess.run(
        [sys.executable, "-Bc", RUNNER],
        cwd=str(folder),
        env=dict(os.environ, PYTHONPATH=ROOT, https_proxy="http://127.0.0.1:9", no_proxy=""),
        input=json.dumps(commands),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert process.returncode == 0, process.stderr


def test_blocks_of_python_compile():
    for block in blocks("python"):
        compile(block.text, str(block), "exec")
