"""The command `empir`, also `python -m empir`: a word that says what to do, and its flags.

    empir attack --dataset=mnist --model_path=checkpoints/mnist/model3-fp --attack=pgd
    empir robustness --help
"""

import importlib
import sys
from dataclasses import dataclass
from typing import Callable, Optional, Sequence, Tuple

from empir.commands import commandline, process
from empir.errors import EmpirError
from empir.runtime import VERSION


@dataclass(frozen=True)
class Command:
    """A word of the command line, and the function that it runs.

    Attributes:
      function: "module:function". The function defines absl flags and returns the function that
        runs the command; if `words` is set, it takes the words of the command line itself.
      about: one line about what the command does.
      words: whether the command has no absl flags.
      by_dataset: whether --dataset decides which flags there are and which defaults they have.
      before: words that always precede the others on its command line.
    """

    function: str
    about: str
    words: bool = False
    by_dataset: bool = False
    before: Tuple[str, ...] = ()

    def load(self) -> Callable:
        """The function that `function` names."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)

    def help(self) -> Optional[str]:
        """What --help prints before the flags: the docstring of the function's module."""
        return sys.modules[self.load().__module__].__doc__


COMMANDS = {
    "attack": Command(
        "empir.commands.attack:setup",
        "attack the networks of a --dataset; train one where there is none yet",
        by_dataset=True,
    ),
    "train": Command(
        "empir.commands.attack:setup",
        "train a network of a --dataset into the folder --model_path",
        by_dataset=True,
        before=("--train_only",),
    ),
    "robustness": Command(
        "empir.commands.robustness:setup",
        "attack networks, also your own Keras models, in many ways; write a report",
    ),
    "reproduce": Command(
        "empir.commands.reproduce:setup", "reproduce a dataset's rows of the paper's table"
    ),
    "merge": Command(
        "empir.commands.merge:main", "make a whole evaluation of its --shards", words=True
    ),
    "compare": Command(
        "empir.commands.compare:main", "test which of two evaluations leaves more", words=True
    ),
    "cost": Command("empir.commands.cost:setup", "count what an ensemble costs beside one network"),
    "export": Command(
        "empir.commands.export:setup", "write an ensemble in the format of another tool"
    ),
    "import": Command("empir.commands.importing:setup", "make checkpoints of a network in PyTorch"),
    "checkpoints": Command(
        "empir.commands.checkpoints:main", "say what a checkpoint holds", words=True
    ),
    "convert": Command(
        "empir.data.convert:main",
        "turn ImageNet's images into the TFRecords that the commands read",
        words=True,
        before=("convert",),
    ),
}


def help_text() -> str:
    """What `empir --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"empir {VERSION}: empir COMMAND [FLAG...], with one of the commands", ""]
    lines += [f"  {name:{width}}  {command.about}" for name, command in COMMANDS.items()]
    return "\n".join(lines + ["", "empir COMMAND --help lists the flags of a command."])


def main(argv: Optional[Sequence[str]] = None):
    """Run the command that a command line names, by default this process's, and exit."""
    words = list(sys.argv if argv is None else argv)[1:]
    if not words or words[0] not in COMMANDS:
        process.exit_with(lambda: _without_command(words))
    name, command = words[0], COMMANDS[words[0]]
    program = f"empir {name}"
    line = [program, *command.before, *words[1:]]
    if command.words:
        # A command that has words before it, such as argparse's, prints its own help.
        shown = None if command.before else command.help
        commandline.run_words(lambda rest: command.load()(rest), shown, line)
    elif command.by_dataset:
        about = f"{program}: {command.about}."
        commandline.run_main(lambda: _setup_by_dataset(command, line), line, about)
    else:
        commandline.run_main(lambda: command.load()(), line, command.help)


def _setup_by_dataset(command, line):
    """Define the flags of the dataset that a command line names; returns what runs the command."""
    from absl import flags

    from empir.commands import shared_flags

    dataset = commandline.value_of(commandline.expanded(line), "dataset", "mnist")
    run = command.load()(shared_flags.chosen_experiment(dataset).dataset)
    flags.DEFINE_string("dataset", "mnist", shared_flags.dataset_help())
    return run


def _without_command(words):
    if words[:1] == ["--version"]:
        print(VERSION)
        return 0
    if commandline.asks_for_help(words[:1]):
        print(help_text())
        return 0
    what = f"the command {words[0]!r} is unknown" if words else "a command is missing"
    raise EmpirError(f"{what}: choose from {', '.join(COMMANDS)}, or see empir --help")
