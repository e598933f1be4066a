"""empir compare: McNemar's exact test of two evaluations of the same images."""

import os
import shutil

import pytest

from empir.commands import compare
from empir.errors import EmpirError
from empir.evaluation import per_image
from tests.support import RESULTS

BASE = os.path.join(RESULTS, "robustness")
VOTE = os.path.join(BASE, "mnist-ensemble-0.1-vote.json")
BASELINE = os.path.join(BASE, "mnist-baseline-0.1.json")


@pytest.fixture
def run(tmp_path):
    """The folder of a finished run: that of the vote's record."""
    shutil.copy(VOTE, tmp_path / "result.json")
    shutil.copy(VOTE[:-5] + ".npz", tmp_path / per_image.NAME)
    return tmp_path


def test_two_evaluations_are_compared_image_by_image(run, capsys):
    vote, alone = per_image.read(VOTE[:-5] + ".npz"), per_image.read(BASELINE[:-5] + ".npz")
    only = [(vote.correct & ~alone.correct).sum(), (alone.correct & ~vote.correct).sum()]
    assert compare.main([str(run), BASELINE]) == 0
    text = capsys.readouterr().out
    assert f"first: {run}: {vote.worst_case().percent:.2f} % correct" in text
    told = "Of 1000 images %d are correct in the first only, and %d in the second only." % (*only,)
    assert told in text and "p = 4.2e-32" in text
    assert compare.main([VOTE, str(run)]) == 0
    assert "0 are correct in the first only, and 0 in the second" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, says",
    [
        ([VOTE], "usage: empir compare FIRST SECOND"),
        ([VOTE, "--out=x"], "usage: empir compare FIRST SECOND"),
        ([VOTE, "{run}/attack"], "there is no {run}/attack"),
        ([VOTE, os.path.join(BASE, "cifar10-baseline-2-255.json")], "not of the same images"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, says, run):
    words, says = [word.format(run=run) for word in words], says.format(run=run)
    with pytest.raises(EmpirError, match=says):
        compare.main(words)


def test_a_record_that_its_images_contradict_is_refused(run):
    shutil.copy(BASELINE, run / "result.json")
    with pytest.raises(EmpirError, match="images.npz has .* make both anew"):
        compare.main([str(run), VOTE])
