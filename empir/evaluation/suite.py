"""Runs a suite of attacks on an ensemble, and takes the worst case for each image.

An image counts as correct only if the ensemble decides its true class on the clean image and on
every adversarial image within the radius that an attack has made of it. Some attacks attack every
image, so that their strengths can be compared. The others attack only the images that no attack
before them has misclassified, which costs little.
"""

import contextlib
import functools
import logging
import os
import time
from dataclasses import dataclass, replace
from typing import List, Optional, Sequence, Tuple

import numpy as np

from empir import attacks, runtime
from empir.evaluation import checks, curves, per_image, places, probes, runner, suites, time_left
from empir.evaluation.attackers import SuiteAttacker, digests, of_suite
from empir.evaluation.graph import Judge, Networks, Setting
from empir.evaluation.scores import score
from empir.evaluation.specs import AttackSpec
from empir.evaluation.storage import COLUMNS, Storage, arrays, check_free
from empir.models.model import describe_members
from empir.records import locks, provenance, runs

log = logging.getLogger(__name__)

SCHEMA = 2


@dataclass(frozen=True)
class Result:
    """The record of an evaluation, and the worst case of each image.

    Attributes:
      record: as in result.json.
      clean: of the clean images, "decision" int64 [n] and "members" int64 [n, members].
      first_success: int [n], index of the first of the record's attacks that succeeded on the
        image; -1: none did, or the clean image was misclassified.
      l2: float32 [n], L2 distance of that adversarial image; 0 where there is none.
      folder: of the attacks' folders.
      correct: bool [n], images that are classified correctly, clean and under every attack.
    """

    record: dict
    clean: dict
    first_success: np.ndarray
    l2: np.ndarray
    folder: str
    correct: np.ndarray

    def adversarial(self, images: Sequence[int]) -> List[Optional[dict]]:
        """The first success on each of some images.

        Returns:
          For each image the arrays `COLUMNS` of it and "attack", its name; None if there is none.
        """
        images, found = np.asarray(images), {}
        for number in sorted(set(self.first_success[images]) - {-1}):
            name = self.record["trials"][number]["name"]
            kept = arrays(os.path.join(self.folder, name))
            for image in images[self.first_success[images] == number]:
                (place,) = np.flatnonzero(kept["row"] == image)
                found[image] = dict({key: kept[key][place] for key in COLUMNS}, attack=name)
        return [found.get(image) for image in images]


class Evaluation:
    """Attacks on a setting, each in a folder of its own and run only if it is not there.

    Args:
      setting: what is attacked.
      out: folder of the attacks' folders.
      clean: outputs on the clean images, see `runner.clean_outputs`.
      ahead: attacks that are to come, for the time left.
      progress: show progress bars.
      run: `runs.digest` of what is attacked.
      place: where chunks are computed.
      sha256: of `attackers.digests`, for other processes that compute chunks.
      judge: see `SuiteAttacker`.

    Attributes:
      setting, clean: as given.
      correct: bool [n], images that no attack so far has misclassified.
      first_success, l2: see `Result`.
      rows: one record per attack so far.
    """

    def __init__(
        self,
        setting: Setting,
        out: str,
        clean: dict,
        *,
        ahead: Sequence[AttackSpec] = (),
        progress: bool = True,
        run: str = "",
        place: places.Place = places.Here(),
        sha256: Sequence = (),
        judge: Optional[Judge] = None,
    ):
        self.setting, self.clean = setting, clean
        self.correct = clean["decision"] == setting.data.labels
        self.first_success = np.full(len(self.correct), -1)
        self.l2 = np.zeros(len(self.correct), np.float32)
        self._margin = np.full(len(self.correct), -np.inf, np.float32)
        self.rows: List[dict] = []
        self._progress = progress
        self._storage = Storage(out, run, runtime.parallelism())
        self._ahead = list(ahead)
        self._done: List[Tuple[AttackSpec, int, float]] = []
        self._place, self._attacker = place, SuiteAttacker(setting, judge)
        self._each = _computing(setting, sha256, self._attacker, place)

    def close(self) -> None:
        """Close the graph of the last attack."""
        self._attacker.close()

    def run(self, spec: AttackSpec, images: Optional[np.ndarray] = None) -> dict:
        """Run an attack or take what is there; its arrays `COLUMNS` but the images.

        Args:
          spec: the attack.
          images: int [m], images that it attacks; None: those that the spec says.
        """
        if images is None:
            images = self._images(spec)
        row = self._run(spec, images)
        found = self.arrays(spec.name, COLUMNS[:-1])
        setting = self.setting
        reach = setting.bound.reach(setting.data.clip_range, setting.image_size)
        close = found[setting.bound.norm] <= reach
        hit = found["success"] & close & self.correct[found["row"]]
        np.maximum.at(self._margin, found["row"][close], found["margin"][close])
        new = found["row"][hit]
        self.correct[new] = False
        self.first_success[new] = len(self.rows)
        self.l2[new] = found["l2"][hit]
        row["worst_case"] = float(self.correct.mean())
        self.rows.append(row)
        self._done.append((spec, len(images), row["seconds"]))
        names = [other.name for other in self._ahead]
        if spec.name in names:  # those before it are not needed: a curve has ended early
            del self._ahead[: names.index(spec.name) + 1]
        successes = f"success on {row['broken']} of {len(images)} images"
        log.info(
            "%s: %s, %.2f %% of all correct so far (%.0f s%s)",
            spec.name,
            successes if len(images) else "no image remains for it",
            100 * row["worst_case"],
            row["seconds"],
            self._outlook(),
        )
        return found

    def run_with_pilot(self, spec: AttackSpec) -> None:
        """Run an attack; a pilot also on more images, as many at a time, while it succeeds."""
        found, tried, number = self.run(spec), np.zeros(0, np.int64), 1
        while spec.pilot and found["success"].any():
            tried, number = np.union1d(tried, found["row"]), number + 1
            others = np.setdiff1d(np.flatnonzero(self.correct), tried)
            if not len(others):
                break
            found = self.run(spec.wave(number), self._nearest(others, spec.images))

    def _nearest(self, images, count):
        """Those of `images` that attacks brought closest to a misclassification, in order."""
        order = np.argsort(-self._margin[images], kind="stable")
        return np.sort(images[order[:count]])

    def _images(self, spec):
        """Images that an attack would attack now."""
        remaining = np.flatnonzero(self.correct)
        if spec.at_most is not None and len(remaining) > spec.at_most:
            return remaining[:0]
        if spec.pilot:
            return self._nearest(remaining, spec.images)
        return (np.arange(len(self.correct)) if spec.everyone else remaining)[: spec.images]

    def _outlook(self):
        """The time that the attacks ahead take, in words; nothing where it is not known yet."""
        ahead = [(spec, len(self._images(spec))) for spec in self._ahead]
        seconds = time_left.seconds_left(self._done, ahead) if ahead else None
        seconds = seconds and seconds / self._place.count
        return f"; about {max(1, np.ceil(round(seconds) / 60)):.0f} min left" if seconds else ""

    def arrays(self, name: str, keys: Sequence[str] = COLUMNS) -> dict:
        """Arrays of an attack that was run."""
        return self._storage.arrays(name, keys)

    def workers(self) -> list:
        """Who computed the chunks of all attacks so far, see `places.workers`."""
        return places.combined([w for row in self.rows for w in self._storage.workers(row["name"])])

    def _run(self, spec, images):
        """Run an attack into its folder, or take what is there; its row of the record."""
        row = self._storage.row(spec, images)
        if row is not None:
            return row
        store, size = self._storage.store(spec, images), self.setting.batch_size
        led = spec.start and self.arrays(spec.start, ("row", "adversarial"))
        chunks = [images[start : start + size] for start in range(0, len(images), size)]
        if chunks:
            bar = dict(title=spec.name, show=self._progress, place=self._place)
            given = functools.partial(self._given, spec, led)
            call = lambda rows: (spec, rows, given(rows))  # noqa: E731
            runner.fill(store, chunks, COLUMNS, self._each, call, **bar)
        else:  # an attack on no images still leaves arrays, of no rows
            chunks = [images]
            store.add(0, 0, _NOTHING)
        starts = runner.chunk_starts(chunks)
        success = store.column("success", starts)
        row = dict(
            spec.describe(),
            attacked=len(images),
            broken=int(success.sum()),
            accuracy=float(1 - success.mean()) if spec.everyone else None,
            seconds=round(float(store.column("seconds", starts).sum()), 3),
        )
        self._storage.keep(spec, images, store, starts, row)
        return row

    def _given(self, spec, led, rows):
        """What is known of a chunk; `led` is where the attack to start from led."""
        clean = {name: self.clean[name][rows] for name in ("decision", "ranking")}
        if attacks.row(spec.attack).decision_only:
            clean["decisions"] = self.clean["decision"]
        elif led:
            clean["starts"] = led["adversarial"][np.searchsorted(led["row"], rows)]
        return clean


#: Arrays of a chunk of no images.
_NOTHING = dict.fromkeys(COLUMNS, np.zeros(0, np.int64))
_NOTHING.update(success=np.zeros(0, bool), seconds=np.zeros(1))


def _computing(setting, sha256, attacker, place):
    sent = replace(setting, open=None, data=None)
    return place.computing(attacker, functools.partial(of_suite, sent, sha256))


def run(
    setting: Setting,
    out: str,
    specs: Optional[Sequence[AttackSpec]] = None,
    *,
    progress: bool = True,
    analyses: bool = True,
    effort: suites.Effort = suites.Effort(),
    place: places.Place = places.Here(),
) -> Result:
    """Run a suite into a folder, going on from what is there.

    Args:
      setting: what is attacked.
      out: folder: result.json and images.npz, and per attack a folder with result.json and
        examples.npz.
      specs: the suite; the order matters to attacks on the remaining images; None: the adaptive
        suite.
      progress: show progress bars.
      analyses: measure the curves and make the checks too; a finished run keeps its own.
      effort: of the adaptive suite.
      place: where chunks are computed.

    Raises:
      ResumeError: if `out` holds another run, or a damaged part of this one, or another process
        writes to it.
      EmpirError: for values out of range, an attack that leaves its ball, or if `out` cannot be
        written.
    """
    runs.check_writable(out)
    with locks.lock(out):
        check_free(out)
        how = dict(progress=progress, analyses=analyses, effort=effort, place=place)
        return _run(setting, out, specs, **how)


def _run(setting, out, specs, *, progress, analyses, effort, place):
    """Run a suite into a folder that nothing else uses."""
    began = time.perf_counter()
    missing = None  # the caller's own suite is not compared with the adaptive one
    with contextlib.ExitStack() as opened:  # what judges the clean images judges the attacks' too
        networks = opened.enter_context(setting.open())
        if specs is None:
            others, classes = len(networks.outside), setting.data.num_classes
            norm = setting.bound.norm
            missing = suites.left_out(norm, others, classes)
            specs = suites.adaptive(
                networks.ensemble, norm, outside=others, effort=effort, classes=classes
            )
        own = suites.own_view(networks.ensemble)
        head = describe(setting, networks)
        runs.claim(out, dict(head, trials=[s.describe() for s in specs]), True, "evaluation")
        analyses = analyses or _has_analyses(out)
        sha256 = digests(networks)
        judge = Judge(setting, networks)
        clean = _clean(judge, setting, sha256, place)
        probe = probes.probe(setting, networks) if analyses else None
        measured = {"left_out": [attack.describe() for attack in missing or ()]}
        measured.update(curves={}, verdicts=[])
        compared, measured_by = (), ()
        if analyses:
            compared = suites.controls(setting.bound, setting.largest_radius, own)
            measured_by = curves.specs_of(setting, effort, own)
        how = dict(progress=progress, run=runs.digest(head), place=place, sha256=sha256)
        how.update(ahead=(*specs, *compared, *measured_by), judge=judge)
        evaluation = Evaluation(setting, out, clean, **how)
        opened.callback(evaluation.close)
        for spec in (*specs, *compared):
            evaluation.run_with_pilot(spec)
        if analyses:
            measured["curves"] = curves.measure(evaluation, effort, own)
            evidence = checks.Evidence.of(evaluation, probe, measured["curves"], missing)
            found = checks.judge(evidence)
            measured["verdicts"] = [check.describe() for check in found]
    record = _record(head, evaluation, measured)
    record.update(places.describe(evaluation.workers(), time.perf_counter() - began))
    found = per_image.of_suite(evaluation, head["combine"])
    per_image.write(os.path.join(out, per_image.NAME), found)
    runs.write_json(os.path.join(out, "result.json"), record)
    return Result(
        record, clean, evaluation.first_success, evaluation.l2, out, correct=evaluation.correct
    )


def _clean(judge, setting, sha256, place):
    """What `runner.clean_outputs` gives, computed at a place."""
    each = _computing(
        setting, sha256, lambda _, rows, clean: runner.clean_chunk(judge, setting, rows), place
    )
    calls = [functools.partial(tuple, (None, rows, {})) for rows in runner.chunks_of(setting)]
    parts = dict(each(calls))
    return runner.joined([parts[number] for number in sorted(parts)])


def _has_analyses(out):
    path = os.path.join(out, "result.json")
    return os.path.exists(path) and bool(runs.read_json(path).get("verdicts"))


def describe(setting: Setting, networks: Networks) -> dict:
    """The head of a suite's record: what is attacked, as plain data."""
    ensemble, data = networks.ensemble, setting.data
    described = describe_members(ensemble.members, setting.options, networks.outside)
    return {
        "schema": SCHEMA,
        "dataset": data.name,
        "architecture": setting.architecture,
        "options": described["options"],
        "combine": ensemble.combine,
        "members": described["members"],
        "outside": described["outside"],
        "eps": setting.bound.eps,
        "norm": setting.bound.norm,
        "seed": setting.seed,
        "batch_size": setting.batch_size,
        "num_examples": len(data.labels),
        "data": {k: v for k, v in data.describe().items() if k != "source"},
    }


def _record(head, evaluation, measured):
    labels, accuracy = evaluation.setting.data.labels, float(evaluation.correct.mean())
    return dict(
        head,
        clean_accuracy=float(np.mean(evaluation.clean["decision"] == labels)),
        chance=1 / evaluation.setting.data.num_classes,
        worst_case_accuracy=accuracy,
        interval=[limit / 100 for limit in score(accuracy, len(labels)).interval],
        trials=evaluation.rows,
        **measured,
        seconds=round(sum(row["seconds"] for row in evaluation.rows), 3),
        **provenance.of_run(),
    )
