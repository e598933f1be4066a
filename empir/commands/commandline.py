"""Runs commands as processes: reads their flags and flag files, and prints what --help shows."""

import re
import sys
import textwrap

from empir import runtime
from empir.commands.process import exit_with
from empir.errors import EmpirError
from empir.records import runs

#: Ways to ask for help.
HELP = ("--help", "-help", "-h", "-?", "--helpshort", "--helpfull")

#: Flags whose empty value means something: no GPU, no network to transfer from.
EMPTY = ("gpu", "outside")

#: The largest number of bytes of a flag file, and of flag files that one names within another.
MOST_BYTES, MOST_DEPTH = 2**20, 10

WIDTH = 100


def run_main(setup, argv=None, about=None):
    """Run a command of absl flags as this process: see `process.exit_with`.

    Args:
      setup: called once the Python version is known to be right; defines the absl flags and
        returns the command's `main(argv)`.
      argv: command line; default: this process's. The original's `--wbitsList 2 4 2` is accepted
        beside `--wbitsList=2,4,2`.
      about: what --help says before the flags, or a function that returns it; default: the
        docstring of the module of `setup`.
    """

    def run():
        runtime.require_python()
        from absl import flags

        words = expanded(sys.argv if argv is None else argv)
        before = set(flags.FLAGS)
        main = setup()
        own = sorted(set(flags.FLAGS) - before)
        if asks_for_help(words[1:]):
            text = sys.modules[setup.__module__].__doc__ if about is None else about
            print(help_text(_text(text), [flags.FLAGS[name] for name in own]))
            return 0
        return main(_parse(flags, join_bit_lists(words), own))

    exit_with(run)


def run_words(main, about=None, argv=None):
    """Run a command without absl flags as this process: see `process.exit_with`.

    Args:
      main: takes the command line without the program, and returns the exit status.
      about: what --help prints, or a function that returns it; None leaves it to `main`.
      argv: command line; default: this process's.
    """

    def run():
        runtime.require_python()
        words = checked(sys.argv if argv is None else argv)[1:]
        if about is not None and asks_for_help(words):
            print(_text(about))
            return 0
        return main(words)

    exit_with(run)


def _text(about):
    return (about() if callable(about) else about or "").strip()


def asks_for_help(words) -> bool:
    """Whether a command line asks for help."""
    return any(word in HELP for word in words)


def checked(words) -> list:
    """A copy of a command line; `EmpirError` if one of its words is not UTF-8 text."""
    for word in words:
        try:
            word.encode("utf8")
        except UnicodeEncodeError:
            raise EmpirError(
                f"{word!r} is not UTF-8, and TensorFlow opens no other paths: rename what it names"
            )
    return list(words)


def _parse(flags, words, own):
    """Parse a command line into absl's flags; returns what is left."""
    try:
        rest = flags.FLAGS(words)
    except flags.Error as error:
        raise EmpirError(re.sub("^flag (?=--)", "", str(error)))
    if len(rest) > 1:
        raise EmpirError(f"unexpected argument {rest[1]!r}; flags are written --name=value")
    for name in own:
        flag = flags.FLAGS[name]
        if flag.present and flag.value == "" and name not in EMPTY:
            raise EmpirError(f"--{name}= is empty: give a value, or drop the flag")
    return rest


def expanded(argv) -> list:
    """A command line in which --flagfile=FILE is replaced by the lines of the file.

    Raises:
      EmpirError: for a file that is missing, no regular file, too long, or within itself; for
        --undefok, with which flags would be ignored; for words that are not UTF-8.
    """
    return checked(argv[:1]) + list(_expanded(checked(argv[1:]), ()))


def _expanded(words, within):
    words = iter(words)
    for word in words:
        if word == "--":
            yield word
            yield from words
            return
        name, equals, value = word.partition("=")
        if name in ("--undefok", "-undefok"):
            raise EmpirError(f"{name}: no flag is ignored here")
        if name not in ("--flagfile", "-flagfile"):
            yield word
            continue
        path = value if equals else next(words, "")
        if path in within or len(within) == MOST_DEPTH:
            raise EmpirError(f"--flagfile={path} is within itself, or too deep")
        yield from _expanded(_lines(path), within + (path,))


def _lines(path):
    """The words of a flag file: its lines that are not empty and no comment."""
    try:
        with runs.open_file(path) as file:
            content = file.read(MOST_BYTES + 1)
        lines = [line.strip() for line in content.decode("utf8").split("\n")]
    except runs.NotRegularError:
        raise EmpirError(f"--flagfile={path} is not a regular file")
    except OSError as error:
        raise EmpirError(f"--flagfile={path} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        raise EmpirError(f"--flagfile={path} cannot be read: it is not UTF-8 text")
    if len(content) > MOST_BYTES:
        raise EmpirError(f"--flagfile={path} is longer than 1 MiB")
    return [line for line in lines if line and not line.startswith(("#", "//"))]


def value_of(words, name: str, default: str) -> str:
    """The value that a flag has on a command line whose flags are not defined yet."""
    value = default
    for word, after in zip(words, list(words[1:]) + [""]):
        head, equals, tail = word.partition("=")
        if head in ("--" + name, "-" + name):
            value = tail if equals else after
    return value


def help_text(about: str, flags) -> str:
    """What --help prints: what the command is for, and each flag with its default.

    Args:
      about: paragraphs.
      flags: absl's flags, in order.
    """
    entries = [_entry(flag) for flag in flags]
    note = "Flags are written --name=value; the last one of a name counts. --help shows this, and "
    note += "--flagfile=FILE takes more flags from a file, one a line."
    wrapped = textwrap.fill(note, WIDTH)
    return "\n".join([about, "", wrapped, ""] + entries)


def _entry(flag):
    name = "[no]" + flag.name if flag.boolean else flag.name
    text = flag.help.strip()
    if flag.default is not None:
        text += f" (default: {flag.default_as_str or repr('')})"
    elif "default" not in text:
        text += " (no default)"
    lines = textwrap.wrap(text, WIDTH - 4)
    return "\n".join([f"  --{name}:"] + ["    " + line for line in lines])


_BIT_LIST = re.compile(r"--?(wbits2?List|abits2?List)$")


def join_bit_lists(argv):
    """`--wbitsList 2 4 2` (argparse's way, the original's) -> `--wbitsList=2,4,2` (absl's)."""
    joined, within_list = [], False
    for word in argv:
        if within_list and re.match(r"-?\d+(,\d+)*$", word):
            joined[-1] += word if joined[-1].endswith("=") else "," + word
        else:
            within_list = bool(_BIT_LIST.match(word))
            joined.append(word + "=" if within_list else word)
    return joined
