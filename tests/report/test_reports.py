"""What reports say of a record on a terminal and in Markdown, and that its text stays text."""

import json
import logging

import markdown
import pytest

from empir.commands import attack
from empir.evaluation.checks import CHECKS
from empir.report import escape, networks
from empir.report import robustness as report
from tests.support.reported import NETWORK, RECORD, TRIAL, Parsed, record

NASTY = [
    "<script>alert(1)</script>",
    "a`<img src=x onerror=y>`b",
    "``<b>x</b>`",
    "a\n\n<script>x</script>\n",
    "[x](javascript:y)",
    "![x](http://x)",
    "a|b **c** &lt;b> \\<b>x",
    "`",
    "",
]


def rendered(text):
    """The elements and the text that a reader of Markdown makes of it."""
    return Parsed("<div>%s</div>" % markdown.markdown(text, extensions=["tables"]))


@pytest.mark.parametrize("text", NASTY)
def test_text_of_a_record_stays_text_in_markdown(text):
    line = " ".join(text.split())
    for shown in (escape.plain(text), escape.code(text)):
        parsed = rendered("before %s after" % shown)
        tags = {tag for tag, _, _ in parsed.elements}
        assert tags <= {"div", "p", "code"}, shown
        assert parsed.texts("p") == [" ".join(("before %s after" % line).split())]
    # In a table a bar ends no cell.
    table = rendered("| a | b |\n| --- | --- |\n| %s | c |" % escape.plain(text))
    assert [cell for cell in table.texts("td")] == [line, "c"]


@pytest.mark.parametrize("text", NASTY)
def test_no_text_of_a_record_becomes_html_in_its_report(text):
    changes = dict(
        members=[dict(NETWORK, path=text), dict(NETWORK, path="models/b")],
        architecture=text,
        combine=text,
        command=text,
        left_out=[dict(attack=text, reason=text)],
        verdicts=[dict(name=text, title=text, passed=False, reason=text, see=text)],
        trials=[dict(TRIAL, name=text, goal=text)],
    )
    parsed = rendered(report.markdown(record(**changes)))
    tags = {tag for tag, _, _ in parsed.elements}
    assert not tags & {"script", "img", "b", "a"} and "Command" in parsed.texts("p")[-1]
    assert "\n\n\n" not in report.markdown(record(**changes))


def test_names_and_paths_without_markup_stand_as_they_are():
    for text in ("mean_logits, ce", "images in [0, 1]", "checkpoints/mnist/model1-w2a4", "5 % > 4"):
        assert escape.plain(text) == text and escape.code(text) == "`%s`" % text


@pytest.mark.parametrize(
    "passed, told",
    [
        ((True, True), "All 2 checks of the attacks passed."),
        ((True, None), "not judged: Starts. One start. See docs/r.md#b"),
        ((False, True), "FAILED: Steps. Level. See docs/r.md#a"),
    ],
)
def test_the_terminal_says_how_the_checks_ended(passed, told):
    verdicts = [dict(v, passed=p) for v, p in zip(RECORD["verdicts"], passed)]
    text = report.terminal(record(verdicts=verdicts))
    assert told in text.splitlines() and text.count("passed") == all(passed)
    assert "checks" not in report.terminal(record(verdicts=[]))


def test_members_are_told_by_name_and_bits():
    text = report.terminal(record())
    assert "member1: a, w2a4\nmember2: b, full precision\n" in text
    page = report.markdown(record())
    assert "1. `models/a`, w2a4\n2. `models/b`, full precision" in page
    assert text.splitlines()[-1].startswith("MNISTconv, 2 members, mean_logits: robust accuracy")
    one = report.terminal(record(members=[NETWORK]))
    assert "member1" not in one and "network: a, w2a4" in one.splitlines()
    assert one.splitlines()[-1].startswith("MNISTconv, one network: robust")


def test_keras_models_are_told_by_their_files():
    members = [dict(NETWORK, path="nets/mine.h5", keras=True)]
    text = report.terminal(record(members=members, architecture="Keras"))
    assert text.splitlines()[-1].startswith("mine.h5, one network: robust accuracy")


def test_an_attack_without_remaining_images_has_no_successes():
    for text in (report.terminal(record()), report.markdown(record())):
        (line,) = [line for line in text.splitlines() if "square" in line]
        assert "none remained" in line and " 0 " not in line


def test_a_curve_of_nothing_is_a_sentence():
    curves = dict(RECORD["curves"], steps=[[10, 0.0], [160, 0.0]])
    page = report.markdown(record(curves=curves))
    assert "Auto-PGD: No image is classified correctly after 10 to 160 iterations." in page
    assert "| 160 | 0.00 |" not in page and "| 2 | 39.00 |" in page


def test_a_record_without_curves_has_none_in_its_report():
    page = report.markdown(record(curves={}))
    assert "Accuracy against" not in page and "Members:" in page


def result(count):
    """What `attack.report` reads of a record of an ensemble of so many networks."""
    accuracy = {"clean": 0.9, "adversarial": 0.125, "clean_top5": 1.0, "adversarial_top5": 0.5}
    return {
        "members": [dict(NETWORK, path="m/model%d-w2a4" % n) for n in range(1, count + 1)],
        "accuracy": {"vote": accuracy, "mean_logits": accuracy, "mean_probs": accuracy},
        "member_accuracy": [accuracy] * count,
        "clean_accuracy": 0.9,
        "adversarial_accuracy": 0.125,
        "mean_l2": 1.5,
    }


def test_the_accuracies_of_an_ensemble_are_those_of_rules_and_named_members(caplog, capsys):
    caplog.set_level(logging.INFO, "empir")
    attack.report(result(2))
    names = [text.split("  ")[0].split(" clean")[0] for text in caplog.messages[::2]]
    assert names == ["vote", "mean_logits", "mean_probs", "model1-w2a4, w2a4", "model2-w2a4, w2a4"]
    assert len({text.index("clean") for text in caplog.messages}) == 1  # aligned
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_accuracies_of_one_network_stand_on_one_line(caplog, capsys):
    caplog.set_level(logging.INFO, "empir")
    one = result(1)
    del one["member_accuracy"][0]["clean_top5"]
    attack.report(one)
    assert caplog.messages == ["model1-w2a4, w2a4 clean 0.9000, adversarial 0.1250"]
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_records_are_reported_without_being_changed():
    told = record(verdicts=[dict(RECORD["verdicts"][0], name=name) for name in CHECKS])
    before = json.dumps(told)
    report.terminal(told), report.markdown(told), networks.titles(told["members"])
    assert json.dumps(told) == before
