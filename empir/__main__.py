"""The command `empir`, also `python -m empir`: a word that says what to do, and its flags.

    empir attack --dataset=mnist --model_path=checkpoints/mnist/model3-fp --attack=pgd
    empir robustness --help
"""

import importlib
import sys
from typing import NamedTuple

from empir.commands import commandline, process
from empir.errors import EmpirError


class Command(NamedTuple):
    """A command.

    Attributes:
      main: "module:function": the function that defines the flags and returns the main function, or
        with `words` the main function itself.
      about: what it does, in a line.
      words: whether it has no absl flags.
      script: whether it is an example script, whose flags depend on --dataset.
      flags: that stand on its command line anyway.
    """

    main: str
    about: str
    words: bool = False
    script: bool = False
    flags: tuple = ()

    def load(self):
        """The function that `main` names, and the text of its module."""
        module, _, function = self.main.partition(":")
        module = importlib.import_module(module)
        return getattr(module, function), module.__doc__


COMMANDS = {
    "attack": Command(
        "empir.commands.cli:attack_script",
        "attack the networks of a --dataset; train one where there is none yet",
        script=True,
    ),
    "train": Command(
        "empir.commands.cli:attack_script",
        "train a network of a --dataset into the folder --model_path",
        script=True,
        flags=("--train_only",),
    ),
    "robustness": Command(
        "empir.commands.robustness:setup",
        "attack networks, also your own Keras models, in many ways; write a report",
    ),
    "reproduce": Command(
        "empir.commands.reproduce:setup", "reproduce a dataset's rows of the paper's table"
    ),
    "cost": Command("empir.commands.cost:setup", "count what an ensemble costs beside one network"),
    "checkpoints": Command(
        "empir.models.checkpoints:main", "say what a checkpoint holds", words=True
    ),
    "convert": Command(
        "empir.data.convert:main",
        "turn ImageNet's images into the TFRecords that the commands read",
        words=True,
        flags=("convert",),
    ),
    "report": Command(
        "empir.commands.report:main",
        "write the tables of a clone's README and docs anew",
        words=True,
    ),
    "benchmark": Command(
        "empir.benchmark.__main__:setup",
        "time attacks and training beside CleverHans, Foolbox and torchattacks",
    ),
}


def help_text() -> str:
    """What `empir --help` prints."""
    from empir import __version__

    width = max(map(len, COMMANDS))
    lines = ["empir %s: empir COMMAND [FLAG...], with one of the commands" % __version__, ""]
    lines += ["  %-*s  %s" % (width, name, command.about) for name, command in COMMANDS.items()]
    return "\n".join(lines + ["", "empir COMMAND --help lists the flags of a command."])


def main(argv=None):
    """Run the command that a command line names, by default this process's, and exit."""
    argv = list(sys.argv if argv is None else argv)
    if len(argv) < 2 or argv[1] not in COMMANDS:
        process.exit_with(lambda: _without_command(argv[1:]))
    command = COMMANDS[argv[1]]
    program, words = "empir " + argv[1], argv[2:] + list(command.flags)
    if command.script:
        argv, about = [program] + words, "%s: %s." % (program, command.about)
        commandline.run_main(lambda: _attack_setup(command, argv), argv, about)
    elif command.words:
        argv = [program] + list(command.flags) + argv[2:]
        about = None if command.flags else lambda: command.load()[1]
        commandline.run_words(lambda rest: command.load()[0](rest), about, argv)
    else:
        commandline.run_main(
            lambda: command.load()[0](), [program] + words, lambda: command.load()[1]
        )


def _attack_setup(command, argv):
    """Define the flags of an example script, for the dataset that the command line names."""
    from absl import flags

    from empir.experiments import EXPERIMENTS

    names = ", ".join(EXPERIMENTS)
    dataset = commandline.value_of(commandline.expanded(argv), "dataset", "mnist")
    if dataset not in EXPERIMENTS:
        raise EmpirError("--dataset=%s: choose from %s" % (dataset, names))
    run = command.load()[0](dataset)
    flags.DEFINE_string("dataset", "mnist", "whose images and network: %s" % names)
    return run


def _without_command(words):
    from empir import __version__

    if words[:1] == ["--version"]:
        print(__version__)
        return 0
    if commandline.asks_for_help(words[:1]):
        print(help_text())
        return 0
    what = "the command %r is unknown" % words[0] if words else "a command is missing"
    raise EmpirError("%s: choose from %s, or see empir --help" % (what, ", ".join(COMMANDS)))


if __name__ == "__main__":
    main()
