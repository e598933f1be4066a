"""Every command of the table under hostile command lines, streams and signals."""

import os
import re
import signal
import subprocess
import sys

import pytest
from absl import flags

from empir.commands import process
from tests.support import ROOT
from tests.support.commands import COMMANDS, IDS, WITH_FLAGS, WITH_OUT, caller, fill
from tests.support.scripts import assert_refused, remove_flags

each = pytest.mark.parametrize("command", COMMANDS, ids=IDS)
each_with_out = pytest.mark.parametrize("command", WITH_OUT, ids=[c.name for c in WITH_OUT])
each_with_flags = pytest.mark.parametrize("command", WITH_FLAGS, ids=[c.name for c in WITH_FLAGS])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder that the commands of the table can work in."""
    folder = tmp_path_factory.mktemp("hostile")
    fill(folder)
    return folder


@pytest.fixture
def call(workspace, monkeypatch, capfd):
    """Run a command of the table in this process: (command, words of its line) -> its end."""
    return caller(workspace, monkeypatch, capfd)


def defined(command):
    """The flags that a command defines."""
    before = set(flags.FLAGS)
    try:
        command.load()()
        return [flags.FLAGS[name] for name in sorted(set(flags.FLAGS) - before)]
    finally:
        remove_flags()


@each
def test_an_unknown_flag_is_refused(call, command):
    line = command.line.format(out="unknown").split()
    assert_refused(call(command, line + ["--no_such_flag=1"]))
    assert not os.path.exists("unknown")


@each_with_out
@pytest.mark.parametrize("out", ["", "file/out", "--out"])
def test_an_out_that_cannot_be_written_is_refused(call, command, out):
    line = [word for word in command.line.split() if not word.startswith("--out")]
    if out == "--out":  # without a value
        assert_refused(call(command, line + ["--out"]), "out")
    else:
        assert_refused(call(command, line + ["--out=" + out]), "file" if out else "--out")


@each
def test_control_characters_do_not_break_the_line_of_an_error(call, command):
    hostile = "a\nb\x1b[31m\u2028c"
    words = [hostile] if command.words else ["--dataset=" + hostile, "--" + hostile]
    assert_refused(call(command, words))


@each_with_flags
def test_absurd_numbers_are_refused(call, command):
    line = command.line.format(out="absurd").split()
    numbers = [flag for flag in defined(command) if flag.flag_type() in ("int", "number")]
    for flag in numbers:
        values = ["1e400", "x", ""] if flag.flag_type() == "number" else ["9" * 30, "x", ""]
        values += ["nan", "inf", "-1e30", "-" + "9" * 30, "1/0"]
        for value in values:
            assert_refused(call(command, line + ["--%s=%s" % (flag.name, value)]), "--" + flag.name)
    floats = [flag.name for flag in defined(command) if flag.flag_type() == "float"]
    assert not floats, "these take NaN and infinity: shared_flags.define_number does not"


@each_with_flags
def test_an_empty_value_is_refused(call, command):
    for flag in defined(command):
        if flag.flag_type() == "string" and flag.name != "gpu":
            outcome = call(command, ["--%s=" % flag.name])
            assert_refused(outcome, "--%s= is empty" % flag.name)


@each
def test_words_that_are_no_text_are_refused(call, command):
    assert_refused(call(command, ["--out=\udcff"]), "is not UTF-8")


@each
def test_help_names_every_flag_with_its_default(call, command):
    outcome = call(command, ["--help"])
    assert (outcome.returncode, outcome.stderr) == (0, "") and len(outcome.stdout) > 100
    assert max(map(len, outcome.stdout.splitlines())) <= 100
    for flag in [] if command.words else defined(command):
        entry = re.search(r"--(\[no\])?%s:\n((    .*\n?)+)" % flag.name, outcome.stdout)
        assert entry, flag.name
        text = " ".join(entry.group(2).split())
        assert "default" in text and "(no default)" not in text, (flag.name, text)
        if flag.default is not None:
            assert str(flag.default_as_str) in text


@each
def test_a_signal_ends_it_in_order(call, command, monkeypatch):
    def interrupted(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(command.reached.replace(":", "."), interrupted)
    before = signal.getsignal(signal.SIGTERM)
    outcome = call(command, command.line.format(out="signal").split())
    assert (outcome.returncode, outcome.stdout) == (128 + signal.SIGTERM, "")
    assert outcome.stderr == "error: terminated; %s\n" % process.GO_ON
    assert signal.getsignal(signal.SIGTERM) == before


def print_help(command, folder, stdout):
    """Print a command's help, the cheapest that it prints, into a stream, in a process: its end."""
    head = [command.name] if command.name.endswith(".py") else ["-m"] + command.name.split()
    if head[0] != "-m":
        head[0] = os.path.join(ROOT, head[0])
    return subprocess.run(
        [sys.executable, *head, "--help"],
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=str(folder),
        env=dict(os.environ, PYTHONPATH=ROOT),
    )


@pytest.mark.slow
@each
def test_output_that_is_lost_is_no_success(command, workspace):
    with open("/dev/full", "wb") as full:
        process = print_help(command, workspace, full)
    assert process.returncode == 2
    assert process.stderr == (
        b"error: standard output cannot be written: No space left on device\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["empir cost", "empir checkpoints"])
def test_output_that_nobody_reads_ends_it_silently(name, workspace):
    """A command with flags, and one of words: the others lose their output as these do."""
    (command,) = [command for command in COMMANDS if command.name == name]
    read, write = os.pipe()
    os.close(read)
    process = print_help(command, workspace, write)
    os.close(write)
    assert (process.returncode, process.stderr) == (128 + signal.SIGPIPE, b"")
