"""The commands that hostile input is tried on: a new command joins by one row of `COMMANDS`."""

import importlib
import sys
from typing import NamedTuple, Optional

from empir.commands import commandline
from tests.support import ROOT
from tests.support.in_process import run_here
from tests.support.released import save_members


class Command(NamedTuple):
    """A command, and a line of it that works on small files.

    Attributes:
      name: what follows `python -m`, its word included, or a script's path in the checkout.
      main: "module:function": the function that defines the flags and returns the main function,
        or with `words` the main function itself.
      line: arguments that work in a folder that `fill` has filled; {out} is what --out names.
      out: what --out names: "folder", "file", or None without such a flag.
      reached: "module:function" that the line's work calls, in the module that calls it.
      words: whether the command has no absl flags.
    """

    name: str
    main: str
    line: str
    out: Optional[str] = None
    reached: str = "empir.runtime:configure"
    words: bool = False

    def load(self):
        """The function that `main` names."""
        module, _, function = self.main.partition(":")
        return getattr(importlib.import_module(module), function)


SMALL = "--nb_filters=4 --nb_samples=4 --noprogress "
ATTACK = "--attack=fgsm --out={out} " + SMALL

COMMANDS = [
    Command(
        "examples/mnist_attack.py",
        "examples.mnist_attack:setup",
        "--model_path=model3 " + ATTACK,
        "folder",
    ),
    Command(
        "empir reproduce",
        "empir.commands.reproduce:setup",
        "--sample --nb_samples=4 --slow_samples=1 --out={out}",
        "folder",
    ),
    Command(
        "empir robustness",
        "empir.commands.robustness:setup",
        "--sample --members=fp:model3 --eps=1/255 --nb_iter=1 --noanalyses --out={out} " + SMALL,
        "folder",
    ),
    Command(
        "benchmarks.autoattack",
        "benchmarks.autoattack:setup",
        "--run=run --sample --out={out}",
        "file",
        reached="benchmarks.autoattack:read_record",
    ),
    Command(
        "empir cost",
        "empir.commands.cost:setup",
        "--out={out}",
        "file",
        "empir.commands.cost:ensemble_cost",
    ),
    Command(
        "empir export",
        "empir.commands.export:setup",
        "--format=pytorch --members=w2a4:model1,fp:model3 --out={out}",
        "folder",
        "empir.front:load_ensemble",
    ),
    Command(
        "empir import",
        "empir.commands.importing:setup",
        "--folder=model1 --out={out}",
        "folder",
        "empir.export.reading:write",
    ),
    Command(
        "benchmarks.exported",
        "benchmarks.exported:setup",
        "--sample --out={out}",
        "file",
        "benchmarks.exported:compare",
    ),
    Command("benchmarks.speed", "benchmarks.speed:setup", "--out={out}", "folder"),
    Command(
        "benchmarks.suite_time",
        "benchmarks.suite_time:setup",
        "--out={out}",
        "file",
        reached="benchmarks.suite_time:measure",
    ),
    Command("benchmarks.throughput", "benchmarks.throughput:setup", "", "file"),
    Command(
        "benchmarks.cluster",
        "benchmarks.cluster:setup",
        "--out={out}",
        "file",
        reached="benchmarks.cluster:measure",
    ),
    Command("benchmarks.step_profile", "benchmarks.step_profile:setup", "", "file"),
    Command(
        "empir merge",
        "empir.commands.merge:main",
        "model3 --out={out}",
        "folder",
        reached="empir.evaluation.shards:find",
        words=True,
    ),
    Command(
        "empir checkpoints",
        "empir.commands.checkpoints:main",
        "verify model3",
        reached="empir.commands.checkpoints:describe",
        words=True,
    ),
    Command(
        "benchmarks.pages",
        "benchmarks.pages.__main__:main",
        "--check",
        reached="benchmarks.pages.render:render",
        words=True,
    ),
    Command(
        "empir convert",
        "empir.data.convert:main",
        "convert --source=images --split=val --out={out}",
        "folder",
        reached="empir.data.convert:find_sources",
        words=True,
    ),
]
IDS = [command.name for command in COMMANDS]
WITH_OUT = [command for command in COMMANDS if command.out]
WITH_FLAGS = [command for command in COMMANDS if not command.words]


def fill(folder):
    """Make what the lines of the table read: checkpoints of narrow members, and an empty file."""
    save_members(str(folder))
    (folder / "file").write_text("")


def caller(folder, monkeypatch, capfd):
    """A function that runs a command in this process: (command, words) -> as of a process.

    Args:
      folder: where, filled by `fill`.
      monkeypatch, capfd: pytest's fixtures.
    """
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(ROOT)

    def run(command, words):
        argv, main = [command.name] + list(words), command.load()
        if command.words:
            about = sys.modules[command.main.partition(":")[0]].__doc__
            return run_here(lambda: commandline.run_words(main, about, argv), capfd)
        return run_here(lambda: commandline.run_main(main, argv), capfd)

    return run
