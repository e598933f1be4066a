"""An evaluation's folder: nothing mixed, nothing lost, nothing taken that is not as it was written.

With linear members on drawn images, so that many runs take little time.
"""

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from empir import attacks
from empir.errors import EmpirError, ResumeError
from empir.evaluation import single
from empir.evaluation.finished import evaluation_record
from empir.evaluation.single import Job
from empir.models.ensemble import Ensemble
from empir.records import locks, provenance, runs
from empir.runtime import tf
from tests.support import ROOT
from tests.support.kills import killed_after, killed_runs
from tests.support.known import UNOPTIMIZED, Case, Known

pytestmark = pytest.mark.slow  # it runs whole evaluations

FILES = ["examples.npz", "images.npz", "result.json"]


class Plain(Known):
    """A member that is told by the sum of its weights."""

    def __init__(self, w):
        super().__init__(w)
        self.sha256 = str(w.sum())

    def describe(self):
        """What a record says of it."""
        return dict(super().describe(), sha256=self.sha256)


class Brighter:
    """An attack that takes no time: it makes images brighter."""

    defaults = dict(eps=0.3, ord=np.inf, y=None, y_target=None, clip_min=0.0, clip_max=1.0)

    def __init__(self, model, sess):
        pass

    def generate(self, x, eps, **_):
        """See `cleverhans.attacks.Attack`."""
        return tf.clip_by_value(x + eps, 0.0, 1.0)


def evaluator(patch):
    """`evaluate(out, resume, scale, members, **changes)`: an attack in chunks of 15, 15 and 10."""
    case = Case(np.random.RandomState(0))
    patch(provenance, "of_run", dict)
    patch(attacks, "TABLE", dict(attacks.TABLE, fgsm=attacks.Row(Brighter, {}, {"eps": "eps"})))

    def run(out, resume=False, scale=1.0, members=2, **changes):
        with tf.Graph().as_default(), tf.Session(config=UNOPTIMIZED) as session:
            own = [Plain(scale * weights) for weights in case.w[:members]]
            parameters = dict(eps=0.1, clip_min=0.0, clip_max=1.0)
            plain = dict(
                attack="fgsm", parameters=parameters, data=case.data, seed=0, batch_size=15
            )
            job = Job(ensemble=Ensemble(own), **dict(plain, **changes))
            return single.evaluate(job, session, out, resume, progress=False).record

    run.data = case.data
    return run


@pytest.fixture
def evaluate(monkeypatch):
    """See `evaluator`."""
    return evaluator(monkeypatch.setattr)


def content(folder, name="examples.npz"):
    """Bytes of a file of a run."""
    with open(os.path.join(str(folder), name), "rb") as file:
        return file.read()


def without_times(record):
    """What two runs of the same command share."""
    varying = ("seconds", "started", "command", "peak_memory_mb")
    return {key: value for key, value in record.items() if key not in varying}


def test_a_run_that_is_killed_anywhere_resumes_to_the_same_bytes(evaluate, tmp_path, monkeypatch):
    def small(out, resume=False):
        return evaluate(str(out), resume, members=1, batch_size=20)

    whole = small(tmp_path / "whole")
    points = 0
    for number in killed_runs(monkeypatch, lambda number: small(tmp_path / str(number))):
        out, points = tmp_path / str(number), points + 1
        resumed = small(out, resume=True)
        assert sorted(os.listdir(str(out))) == FILES
        assert without_times(resumed) == without_times(whole)
        assert content(out) == content(tmp_path / "whole")
    # Two folders, run.json, two chunks, two files; three files and a folder to delete; the lock.
    assert points >= 12


SLOW = """
import time
from tests.evaluation import test_state
from empir.records.chunks import ChunkStore
add = ChunkStore.add
ChunkStore.add = lambda *chunk: (add(*chunk), time.sleep(0.2))
test_state.evaluator(setattr)("killed", batch_size=2)
"""


def test_a_process_that_is_killed_is_gone_on_from(evaluate, tmp_path):
    """By SIGKILL, while it computes one of its twenty chunks."""
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", SLOW],
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONPATH=ROOT),
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and not glob.glob(str(tmp_path / "killed" / "partial" / "*2.npz")):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    kept = len(glob.glob(str(tmp_path / "killed" / "partial" / "chunk-*.npz")))
    assert 2 <= kept < 20 and os.path.exists(str(tmp_path / "killed" / locks.LOCK))
    whole = evaluate(str(tmp_path / "whole"), batch_size=2)
    resumed = evaluate(str(tmp_path / "killed"), resume=True, batch_size=2)
    assert without_times(resumed) == without_times(whole)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert sorted(os.listdir(str(tmp_path / "killed"))) == FILES


@pytest.fixture
def unfinished(evaluate, monkeypatch, tmp_path):
    """A folder with all chunks but the last of a run that was killed."""
    out = str(tmp_path / "unfinished")
    with killed_after(monkeypatch, 5, []):
        evaluate(out)
    assert sorted(os.listdir(os.path.join(out, "partial")))[:2] == [
        "chunk-00000000.npz",
        "chunk-00000015.npz",
    ]
    return out


def test_state_without_its_description_is_not_mixed_with_another_run(evaluate, unfinished):
    os.unlink(os.path.join(unfinished, "partial", "run.json"))
    with pytest.raises(
        ResumeError, match="an unfinished evaluation without its run.json: --resume"
    ):
        evaluate(unfinished, scale=-1)
    expected = evaluate(None, scale=-1)
    resumed = evaluate(unfinished, resume=True, scale=-1)
    assert without_times(resumed)["accuracy"] == expected["accuracy"]
    assert expected["accuracy"] != evaluate(None)["accuracy"]


def test_chunks_that_changed_places_are_computed_again(evaluate, unfinished, tmp_path, caplog):
    caplog.set_level("INFO", "empir")
    partial = os.path.join(unfinished, "partial")
    names = [os.path.join(partial, "chunk-%08d.npz" % start) for start in (0, 15)]
    os.rename(names[0], names[0] + "x")
    os.rename(names[1], names[0])
    os.rename(names[0] + "x", names[1])
    evaluate(str(tmp_path / "whole"))
    evaluate(unfinished, resume=True)
    assert content(unfinished) == content(tmp_path / "whole")
    for name in names:
        assert name in caplog.text
    assert "are done" not in caplog.text


def test_the_record_holds_the_digest_of_the_examples(evaluate, tmp_path):
    record = evaluate(str(tmp_path))
    assert record["examples_sha256"] == runs.file_digest(str(tmp_path / "examples.npz"))


def test_examples_tell_their_images_and_with_the_images_the_logits(evaluate, tmp_path):
    evaluate(str(tmp_path / "plain"))
    evaluate(str(tmp_path / "targeted"), targeted=True, save_adversarial=True)
    with np.load(str(tmp_path / "plain" / "examples.npz")) as plain:
        assert plain["index"].dtype == np.int64
        np.testing.assert_array_equal(plain["index"], range(40))
        assert "clean_logits" not in plain.files
    with np.load(str(tmp_path / "targeted" / "examples.npz")) as targeted:
        np.testing.assert_array_equal(targeted["index"], np.repeat(np.arange(40), 3))
        np.testing.assert_array_equal(evaluate.data.labels[targeted["index"]], targeted["label"])
        for name in ("clean", "adversarial"):
            logits = targeted[name + "_logits"]
            assert logits.shape == (120, 2, 4) and logits.dtype == np.float32
            np.testing.assert_array_equal(logits.argmax(axis=2), targeted[name + "_members"])
            mean = logits.mean(axis=1).argmax(axis=1)
            np.testing.assert_array_equal(mean, targeted[name + "_mean_logits"])


def _put(path, put):
    os.unlink(path)
    put(path)


#: What happens to examples.npz of a finished run, and what is said of it then.
LOSSES = {
    "gone": (os.unlink, "is missing"),
    "garbage": (lambda p: _put(p, lambda p: open(p, "w").close()), "is not the file that the run"),
    "cut": (lambda p: os.truncate(p, os.path.getsize(p) - 1), "is not the file that the run wrote"),
    "a pipe": (lambda p: _put(p, os.mkfifo), "is not a regular file"),
    "an endless file": (
        lambda p: _put(p, lambda p: os.symlink("/dev/zero", p)),
        "is not a regular",
    ),
}


def test_a_finished_run_without_its_examples_is_refused(evaluate, tmp_path):
    evaluate(str(tmp_path / "whole"))
    for loss, (lose, says) in LOSSES.items():
        out = str(tmp_path / loss.replace(" ", "-"))
        shutil.copytree(str(tmp_path / "whole"), out)
        lose(os.path.join(out, "examples.npz"))
        with pytest.raises(ResumeError, match="examples.npz %s.*: remove .*result.json" % says):
            evaluate(out, resume=True)
    os.unlink(os.path.join(out, "result.json"))
    os.unlink(os.path.join(out, "examples.npz"))
    evaluate(out, resume=True)
    assert content(out) == content(tmp_path / "whole")


def test_images_that_a_finished_run_did_not_keep_are_not_promised(evaluate, tmp_path):
    evaluate(str(tmp_path))
    with pytest.raises(ResumeError, match="has no array adversarial: remove .*result.json"):
        evaluate(str(tmp_path), resume=True, save_adversarial=True)
    (tmp_path / "result.json").unlink()
    evaluate(str(tmp_path), resume=True, save_adversarial=True)
    evaluate(str(tmp_path), resume=True, save_adversarial=True)
    evaluate(str(tmp_path), resume=True)


def _earlier(out, **arrays):
    """Make a finished run one of a version that kept no digests and fewer arrays."""
    path, record = os.path.join(out, "examples.npz"), json.loads(content(out, "result.json"))
    with np.load(path) as archive:
        kept = {name: archive[name] for name in archive.files if name != "index"}
    np.savez_compressed(path, **dict(kept, **arrays))
    del record["examples_sha256"]
    runs.write_json(os.path.join(out, "result.json"), record)


def test_a_finished_run_of_an_earlier_version_is_accepted_if_it_is_whole(evaluate, tmp_path):
    out = str(tmp_path)
    evaluate(out)
    _earlier(out)
    assert "examples_sha256" not in evaluate(out, resume=True)
    _flip_middle(os.path.join(out, "examples.npz"))
    with pytest.raises(ResumeError, match="examples.npz is damaged"):
        evaluate(out, resume=True)
    os.unlink(os.path.join(out, "result.json"))
    evaluate(out, resume=True)
    _earlier(out, l2=np.zeros(39, np.float32))
    with pytest.raises(ResumeError, match="examples.npz holds l2.npy .39,. of 40 examples"):
        evaluate(out, resume=True)


def _flip_middle(path):
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 3)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"accuracy": None}, "not of its shape"),
        ({"accuracy": {}}, "no mean_logits"),
        ({"clean_accuracy": "0.9"}, "'0.9' is no accuracy"),
        ({"clean_accuracy": float("nan")}, "nan is no accuracy"),
        ({"mean_l2": -1}, "-1 is no accuracy, distance or time"),
        ({"member_accuracy": []}, "0 accuracies of 2 members"),
        ({"member_accuracy": 5}, "not of its shape"),
        ({"seconds": [1, 2]}, "not of its shape"),
    ],
)
def test_a_record_of_another_shape_is_refused(evaluate, tmp_path, changes, says):
    out = str(tmp_path)
    head = {"members": [{}, {}], "num_examples": 40, "attack": {"targeted": False}}
    pair = {"clean": 0.5, "adversarial": 0.25}
    record = dict(head, accuracy={}, member_accuracy=[pair, pair], clean_accuracy=0.5, mean_l2=1.0)
    record["accuracy"] = dict.fromkeys(("vote", "mean_logits", "mean_probs"), pair)
    record.update(adversarial_accuracy=0.25, seconds={"clean": 1, "attack": 2.0})
    runs.write_json(os.path.join(out, "result.json"), dict(record, **changes))
    with pytest.raises(ResumeError, match="result.json is no record of an evaluation .*%s" % says):
        evaluation_record(out, head, [], True)
    runs.write_json(os.path.join(out, "result.json"), record)
    with pytest.raises(ResumeError, match="examples.npz is missing"):
        evaluation_record(out, head, [], True)


@pytest.mark.parametrize("resume", [False, True])
def test_the_folder_of_another_kind_of_run_is_left_alone(evaluate, tmp_path, resume):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ResumeError, match="run.json is of another kind of run: use another folder"):
        evaluate(str(tmp_path), resume)
    assert os.listdir(str(tmp_path)) == ["run.json"]


@pytest.mark.parametrize("out", ["", " "])
def test_an_empty_folder_name_is_refused(evaluate, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmpirError, match="--out=.*is empty: name a folder"):
        evaluate(out)
    assert os.listdir(str(tmp_path)) == []


def test_a_folder_that_another_run_uses_is_refused(evaluate, tmp_path):
    with locks.lock(str(tmp_path)):
        with pytest.raises(ResumeError, match="is in use by another run"):
            evaluate(str(tmp_path))


def test_a_clock_that_is_set_back_makes_no_negative_times(evaluate, monkeypatch):
    clock = iter(range(10**6, 0, -1))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    assert all(0 <= seconds < 1000 for seconds in evaluate(None)["seconds"].values())


def test_shipped_records_are_whole():
    """Those of all evaluations that reproduce the paper's tables."""
    for path in glob.glob(os.path.join(ROOT, "results", "mnist", "*", "*", "result.json")):
        with open(path) as file:
            record = json.load(file)
        assert evaluation_record(os.path.dirname(path), record, ["label", "index"], True) == record
