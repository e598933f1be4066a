"""Command lines: flag files, numbers, and what contradicts itself is refused before any work."""

import os

import pytest
from absl import flags

from empir.commands import commandline, shared_flags
from empir.errors import EmpirError


def refused(words, says):
    """`expanded` refuses a command line with the text."""
    with pytest.raises(EmpirError, match=says) as caught:
        commandline.expanded(["script"] + words)
    assert "\n" not in str(caught.value)


def test_a_flag_file_stands_for_its_lines(tmp_path):
    (tmp_path / "inner").write_text("--nb_iter=3\n")
    file = tmp_path / "flags"
    file.write_text("# comment\n\n  --eps=0.1\n// comment\n--flagfile=%s/inner\n" % tmp_path)
    expected = ["script", "--a", "--eps=0.1", "--nb_iter=3", "--b"]
    for written in (["--flagfile=%s" % file], ["-flagfile", str(file)]):
        assert commandline.expanded(["script", "--a"] + written + ["--b"]) == expected
    assert commandline.expanded(["script", "--", "--flagfile=x"]) == [
        "script",
        "--",
        "--flagfile=x",
    ]


def test_flag_files_that_never_end_are_refused(tmp_path):
    os.mkfifo(str(tmp_path / "fifo"))
    (tmp_path / "long").write_text("--a\n" * 2**19)
    (tmp_path / "loop").write_text("--flagfile=%s/loop\n" % tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, says in (
        ("fifo", "is not a regular file"),
        ("long", "longer than 1 MiB"),
        ("loop", "within itself"),
        ("binary", "not UTF-8"),
        ("missing", "No such file"),
        ("", "is not a regular file"),
    ):
        refused(["--flagfile=%s/%s" % (tmp_path, name)], says)
    refused(["--flagfile=/dev/zero"], "is not a regular file")
    refused(["--flagfile"], "cannot be read")


def test_no_flag_may_be_declared_unknown():
    refused(["--undefok=eps", "--eps=1"], "no flag is ignored here")


@pytest.mark.parametrize(
    "text, value",
    [("0.1", 0.1), ("8/255", 8 / 255), ("1e-3", 1e-3), ("0", 0.0), ("0/255", 0.0), (0.3, 0.3)],
)
def test_radii_may_be_fractions(text, value):
    assert shared_flags.Number().parse(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "x", "nan", "inf", "-0.1", "1/0", "1/2/3", "8/", "/255", "1/nan", "-1/255", "1e999"],
)
def test_what_is_no_radius_is_refused(text):
    with pytest.raises(ValueError, match="write a finite number >= 0, e.g. 0.1 or 8/255"):
        shared_flags.Number().parse(text)
    if text != "":
        with pytest.raises(ValueError, match="write a finite number > 0"):
            shared_flags.Number(zero=False).parse("0")


@pytest.mark.parametrize(
    "words, value",
    [
        ("", "mnist"),
        ("--dataset=cifar10", "cifar10"),
        ("--a -dataset imagenet", "imagenet"),
        ("--dataset=cifar10 --dataset=mnist", "mnist"),
        ("--dataset", ""),
        ("--dataset_=x", "mnist"),
    ],
)
def test_a_value_is_found_before_its_flag_is_defined(words, value):
    assert commandline.value_of(words.split(), "dataset", "mnist") == value


def test_flags_are_those_of_absl():
    defined = flags.FlagValues()
    flags.DEFINE(shared_flags.Number(), "eps", 0.3, "radius", flag_values=defined)
    defined(["script", "--eps", "1/4"])
    assert defined.eps == 0.25
