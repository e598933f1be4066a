"""A suite of attacks on an ensemble, and what it leaves: worst case per image.

An image counts as correct only if the ensemble decides its true class when clean and on whatever
any attack made of it within the radius. Some attacks see every image, so that their strengths can
be compared; the others see those that all attacks before them left correct, which costs little.
"""

import contextlib
import logging
import os
import time
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from empir import runtime
from empir.evaluation import curves, pace, probes, verdicts
from empir.evaluation.measures import require_valid
from empir.evaluation.rounds import Graph, Setting, Subject, attack_chunk, graph_key
from empir.evaluation.scores import score
from empir.evaluation.storage import COLUMNS, Storage, arrays, check_free
from empir.evaluation.trials import Effort, Trial, controls, default_suite, left_out
from empir.records import runs
from empir.runtime import progress_bar

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What an evaluation found.

    Attributes:
      record: as in result.json.
      clean: of the clean images, "decision" int64 [n] and "members" int64 [n, members].
      breaker: int [n], index of the first of the record's trials that broke the image; -1 = none,
        or it was misclassified already when clean.
      l2: float32 [n], how far it was moved; 0 where there is no breaker.
      folder: of the trials' folders.
    """

    record: dict
    clean: dict
    breaker: np.ndarray
    l2: np.ndarray
    folder: str

    def broken(self, images: Sequence[int]) -> List[Optional[dict]]:
        """How each image was broken: the arrays `COLUMNS` of it, and "trial"; None = not at all."""
        images, found = np.asarray(images), {}
        for number in sorted(set(self.breaker[images]) - {-1}):
            name = self.record["trials"][number]["name"]
            kept = arrays(os.path.join(self.folder, name))
            for image in images[self.breaker[images] == number]:
                (place,) = np.flatnonzero(kept["row"] == image)
                found[image] = dict({key: kept[key][place] for key in COLUMNS}, trial=name)
        return [found.get(image) for image in images]


class Evaluation:
    """Trials on a setting, each kept in a folder of its own and run only if it is not there.

    Args:
      setting: what is evaluated.
      out: folder of the trials' folders.
      clean: outputs on the clean images, see `clean_outputs`.
      ahead: trials that are to come, for the time left.
      progress: show progress bars.
      run: `runs.digest` of what is evaluated.

    Attributes:
      setting, clean: as given.
      correct: bool [n], images that nothing has broken so far.
      breaker, l2: see `Outcome`.
      rows: a record per trial so far.
    """

    def __init__(
        self,
        setting: Setting,
        out: str,
        clean: dict,
        ahead: Sequence[Trial] = (),
        progress: bool = True,
        run: str = "",
    ):
        self.setting, self.clean = setting, clean
        self.correct = clean["decision"] == setting.data.labels
        self.breaker = np.full(len(self.correct), -1)
        self.l2 = np.zeros(len(self.correct), np.float32)
        self.rows = []
        self._progress = progress
        self._storage = Storage(out, run, runtime.parallelism())
        self._ahead, self._done = list(ahead), []
        self._opened, self._graph, self._key = contextlib.ExitStack(), None, None

    def close(self):
        """Close the graph of the last trial."""
        self._opened.close()
        self._graph = self._key = None

    def graph(self, trial: Trial) -> Graph:
        """A trial's graph: the last one's, if it is the same, else one of its own."""
        key = graph_key(trial)
        if key != self._key:
            self.close()
            subject = self._opened.enter_context(self.setting.open())
            self._graph, self._key = Graph(self.setting, trial, subject), key
        return self._graph

    def run(self, trial: Trial, seen: Optional[np.ndarray] = None) -> dict:
        """Run a trial or take what is there; its arrays `COLUMNS` but the images.

        Args:
          trial: what to run.
          seen: int [m], images that it attacks; None = all, or those that are left, as it says.
        """
        if seen is None:
            seen = self._seen(trial)
        row = self._run(trial, seen)
        found = self.arrays(trial.name, COLUMNS[:-1])
        close = found[self.setting.norm] <= self.setting.reach(self.setting.eps)
        hit = found["success"] & close & self.correct[found["row"]]
        images = found["row"][hit]
        self.correct[images] = False
        self.breaker[images] = len(self.rows)
        self.l2[images] = found["l2"][hit]
        row["worst_case"] = float(self.correct.mean())
        self.rows.append(row)
        self._done.append((trial, len(seen), row["seconds"]))
        names = [other.name for other in self._ahead]
        if trial.name in names:  # those before it are left out: a curve that ended early
            del self._ahead[: names.index(trial.name) + 1]
        broken = "%d of %d images broken" % (row["broken"], len(seen))
        log.info(
            "%s: %s, %.2f %% of all correct so far (%.0f s%s)",
            trial.name,
            broken if len(seen) else "no image was left for it",
            100 * row["worst_case"],
            row["seconds"],
            self._outlook(),
        )
        return found

    def _seen(self, trial):
        """Images that a trial attacks if it were run now."""
        everyone = np.arange(len(self.correct))
        return (everyone if trial.everyone else np.flatnonzero(self.correct))[: trial.images]

    def _outlook(self):
        """The time that the trials ahead take, in words; nothing where that is not known yet."""
        ahead = [(trial, len(self._seen(trial))) for trial in self._ahead]
        seconds = pace.seconds_left(self._done, ahead) if ahead else None
        return "; about %d min left" % max(1, np.ceil(round(seconds) / 60)) if seconds else ""

    def arrays(self, name: str, keys: Sequence[str] = COLUMNS) -> dict:
        """Arrays of a trial that was run."""
        return self._storage.arrays(name, keys)

    def _run(self, trial, seen):
        """Run a trial into its folder, or take what is there; its row of the record."""
        row = self._storage.row(trial, seen)
        if row is not None:
            return row
        store = self._storage.store(trial, seen)
        # A trial that attacks no images still leaves arrays, of no rows.
        starts = range(0, max(len(seen), 1), self.setting.batch_size)
        with progress_bar(len(seen), trial.name, "image", self._progress) as bar:
            for start in starts:
                rows = seen[start : start + self.setting.batch_size]
                if not store.holds(start, len(rows), COLUMNS + ("seconds",)):
                    store.add(start, len(rows), self._attack(trial, rows))
                bar.update(len(rows))
        success = store.column("success", starts)
        row = dict(
            trial.describe(),
            attacked=len(seen),
            broken=int(success.sum()),
            accuracy=float(1 - success.mean()) if trial.everyone else None,
            seconds=round(float(store.column("seconds", starts).sum()), 3),
        )
        self._storage.keep(trial, seen, store, starts, row)
        return row

    def _attack(self, trial, rows):
        """Arrays of a chunk, and how long it took."""
        began, found = time.perf_counter(), {name: np.zeros(0, np.int64) for name in COLUMNS}
        if len(rows):
            found = attack_chunk(self.graph(trial), self.setting, trial, rows, self.clean)
        else:
            found["success"] = np.zeros(0, bool)
        return dict(found, seconds=np.array([time.perf_counter() - began]))


def run(
    setting: Setting,
    out: str,
    trials: Optional[Sequence[Trial]] = None,
    progress: bool = True,
    analyses: bool = True,
    effort: Effort = Effort(),
) -> Outcome:
    """Run an evaluation into a folder, going on from what is there.

    Args:
      setting: what is evaluated.
      out: folder: result.json, and per trial a folder with result.json and examples.npz.
      trials: the suite; order matters to those that see only what is left. None = the default one.
      progress: show progress bars.
      analyses: measure the curves and give the verdicts too; a finished run keeps its own.
      effort: of the default suite.

    Raises:
      ResumeError: if `out` holds another run, or a damaged part of this one, or another process
        writes to it.
      EmpirError: for values out of range, an attack that leaves its ball, or if `out` cannot be
        written.
    """
    setting.check()
    effort.check()
    runs.check_writable(out)
    with runs.lock(out):
        check_free(out)
        return _run(setting, out, trials, progress, analyses, effort)


def _run(setting, out, trials, progress, analyses, effort):
    """What `run` does with a folder that nothing else uses."""
    missing = None  # the caller's own suite is not compared with the default one
    with setting.open() as subject:
        if trials is None:
            others, classes = len(subject.outside), setting.data.num_classes
            missing = left_out(setting.norm, others, classes)
            trials = default_suite(subject.ensemble, setting.norm, others, effort, classes)
        head = setting.describe(subject)
        runs.claim(out, dict(head, trials=[t.describe() for t in trials]), True, "evaluation")
        analyses = analyses or _has_analyses(out)
        clean = clean_outputs(setting, subject)
        probe = probes.probe(setting, subject) if analyses else None
    measured = {"left_out": [attack.describe() for attack in missing or ()]}
    measured.update(curves={}, verdicts=[])
    compared = controls(setting.norm, setting.whole) if analyses else ()
    ahead = (*trials, *compared, *(curves.trials_of(setting, effort) if analyses else ()))
    given = setting, out, clean, ahead, progress, runs.digest(head)
    with contextlib.closing(Evaluation(*given)) as evaluation:
        for trial in (*trials, *compared):
            evaluation.run(trial)
        if analyses:
            measured["curves"] = curves.measure(evaluation, effort)
            found = verdicts.judge(verdicts.Evidence.of(evaluation, probe, missing))
            measured["verdicts"] = [verdict.describe() for verdict in found]
    record = _record(head, evaluation, measured)
    runs.write_json(os.path.join(out, "result.json"), record)
    return Outcome(record, clean, evaluation.breaker, evaluation.l2, out)


def _has_analyses(out):
    path = os.path.join(out, "result.json")
    return os.path.exists(path) and bool(runs.read_json(path).get("verdicts"))


def _record(head, evaluation, measured):
    labels, accuracy = evaluation.setting.data.labels, float(evaluation.correct.mean())
    versions, commit = runtime.provenance()
    return dict(
        head,
        clean_accuracy=float(np.mean(evaluation.clean["decision"] == labels)),
        chance=1 / evaluation.setting.data.num_classes,
        worst_case_accuracy=accuracy,
        interval=[limit / 100 for limit in score(accuracy, len(labels)).interval],
        trials=evaluation.rows,
        **measured,
        seconds=round(sum(row["seconds"] for row in evaluation.rows), 3),
        versions=versions,
        git_commit=commit,
        command=runtime.command(),
    )


def clean_outputs(setting: Setting, subject: Subject) -> dict:
    """Decisions [n], members' classes [n, members] and `ranking` of the clean images.

    ranking is int [n, classes - 1]: wrong classes by their mean logit, from the largest on.

    Raises:
      EmpirError: for logits that are not finite.
    """
    graph = Graph(setting, None, subject)
    data, parts = setting.data, []
    for start in range(0, len(data.labels), setting.batch_size):
        rows = np.arange(start, min(start + setting.batch_size, len(data.labels)))
        found = graph.run(data.images[rows], data.labels[rows], rows)
        require_valid("the ensemble", rows, data.clip_range, clean=found["mean_logits"])
        parts.append({name: found[name] for name in ("decision", "members", "mean_logits")})
    clean = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(-clean.pop("mean_logits"), axis=1, kind="stable")
    wrong = order[order != np.asarray(data.labels)[:, np.newaxis]]
    return dict(clean, ranking=wrong.reshape(len(data.labels), -1))
