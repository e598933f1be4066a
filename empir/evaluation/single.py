"""One attack on a dataset, chunk by chunk and resumable, and the record of it.

Memory does not grow with the number of images, but for the results per example.
"""

import datetime
import functools
import json
import logging
import os
import time
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from empir import attacks, runtime
from empir.data import Dataset
from empir.errors import ResumeError
from empir.evaluation import attackers, finished, per_image, places, runner, shards
from empir.evaluation.attackers import DECIDERS
from empir.evaluation.graph import Networks
from empir.evaluation.metrics import SCORED_RULES, measure
from empir.evaluation.specs import DECIDED, DRAWN, EVERY, NONE, TRUE, AttackSpec
from empir.models.ensemble import Ensemble
from empir.models.model import describe_members
from empir.records import chunks, locks, provenance, runs

log = logging.getLogger(__name__)

SCHEMA = 1

#: Number of classes from which on top-5 accuracy is measured too.
TOP5_CLASSES = 100

#: Adversarial images of so many images, and of so many targets of each, are kept as examples.
SHOWN_IMAGES, SHOWN_TARGETS = 10, 9


@dataclass(frozen=True)
class Job:
    """Everything that determines the numbers of an attack's record.

    Attributes:
      ensemble: members, decision rule and attack target.
      attack: canonical name of the attack.
      parameters: its full parameters, by CleverHans' names.
      data: clean images and true labels.
      seed: of random starts and random targets.
      batch_size: images per graph call; CW's batch.
      targeted: attack towards every class but the true one: (classes - 1) examples per image.
      true_labels: attack away from the true classes, not from the ensemble's own decisions.
      save_adversarial: keep the adversarial images too.
      show: keep the first adversarial images, of `SHOWN_IMAGES` images.
      architecture, protocol: names for the record; protocol is None if the rule and target are no
        named protocol's.
      options: how the members were built, if not by default, e.g. {"nb_filters": 32}.
      shares: see `graph.Setting`.
    """

    ensemble: Ensemble
    attack: str
    parameters: dict
    data: Dataset
    seed: int
    batch_size: int
    targeted: bool = False
    true_labels: bool = False
    save_adversarial: bool = False
    show: bool = False
    architecture: Optional[str] = None
    protocol: Optional[str] = None
    options: dict = field(default_factory=dict)
    shares: int = 1

    @property
    def spec(self) -> AttackSpec:
        """The attack as the runner takes it."""
        row = attacks.row(self.attack)
        targets = EVERY if self.targeted else NONE
        if not self.targeted and row.takes("y_target") and not row.takes("y"):
            targets = DRAWN  # JSMA takes nothing else
        labels = TRUE if self.true_labels else DECIDED
        own: Dict[str, Any] = dict(targets=targets, labels=labels, parameters=self.parameters)
        return AttackSpec(self.attack, self.attack, **own)

    @property
    def has_top5(self) -> bool:
        """Whether the record holds top-5 accuracies."""
        return self.data.num_classes >= TOP5_CLASSES

    @property
    def has_targets(self) -> bool:
        """Whether each example has a class that it is to become."""
        return self.spec.targets != NONE

    @property
    def per_image(self) -> int:
        """Number of examples of an image."""
        return runner.examples_per_image(self.spec, self.data.num_classes)

    @property
    def numbers(self) -> Optional[np.ndarray]:
        """Number of each example's image in its split, int64 [n]; None if images have several."""
        return self.data.numbers if self.per_image == 1 else None

    @property
    def num_examples(self) -> int:
        """Number of attacked examples."""
        return len(self.data.labels) * self.per_image

    def chunks(self) -> List[np.ndarray]:
        """Numbers of the examples of each chunk."""
        starts = range(0, self.num_examples, self.batch_size)
        return [np.arange(s, min(s + self.batch_size, self.num_examples)) for s in starts]

    def is_shown(self, rows: np.ndarray) -> np.ndarray:
        """Which examples are kept to be shown, bool [n]: the first targets of the first images."""
        image, target = np.divmod(rows, self.per_image)
        return (image < SHOWN_IMAGES) & (target < SHOWN_TARGETS) & self.show

    def columns(self) -> List[str]:
        """Names of the arrays of examples.npz, in order."""
        names = ("clean", "adversarial")
        columns = ["index", "label"]
        columns += [f"{name}_{rule}" for name in names for rule in DECIDERS]
        if self.has_top5:
            columns += [f"{name}_rank_{rule}" for name in names for rule in SCORED_RULES]
        columns += ["l2", "linf", "changed"]
        columns += ["target"] if self.has_targets else []
        if self.save_adversarial:
            columns += ["adversarial", "adversarial_logits", "clean_logits"]
        return columns + (["shown"] if self.show else [])

    def describe(self) -> dict:
        """The head of the record: what is computed, as plain data."""
        ensemble = self.ensemble
        described = describe_members(ensemble.members, self.options)
        # Only where it is so: records of before the choice describe the same attack as now.
        labels = {"labels": TRUE} if self.true_labels else {}
        return {
            "schema": SCHEMA,
            "dataset": self.data.name,
            "architecture": self.architecture,
            "options": described["options"],
            "engine": any(member.engine is not None for member in ensemble.members),
            "protocol": self.protocol,
            "combine": ensemble.combine,
            "members": described["members"],
            "attack": dict(
                self.parameters,
                name=self.attack,
                target=ensemble.attack_target,
                targeted=self.targeted,
                **labels,
            ),
            "num_examples": self.num_examples,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "data": self.data.describe(),
        }


@dataclass(frozen=True)
class Result:
    """The record of an attack, and its arrays per example.

    Attributes:
      record: as in result.json (docs/commands.md, Records).
      arrays: by the names of `Job.columns`; empty if they were not asked for.
    """

    record: dict
    arrays: dict


def evaluate(
    job: Job,
    session: Any,
    out: Optional[str] = None,
    resume: bool = False,
    progress: bool = True,
    shard: Optional[shards.Shard] = None,
    place: places.Place = places.Here(),
) -> Optional[Result]:
    """Run an attack and return its record.

    Args:
      job: what to compute.
      session: session that holds the members' weights.
      out: folder for result.json, examples.npz and, of an attack that makes one example of each
        image, images.npz; while the run is under way it holds the finished chunks. None: the arrays
        are in the result, and nothing is written.
      resume: continue an unfinished run in `out`, or return the record of a finished one.
      progress: show a progress bar.
      shard: compute only this part, into `out`, for `shards.merge`; there is no result then.
      place: where chunks are computed.

    Raises:
      ResumeError: if `out` holds another run, or this one and `resume` is False, or a finished one
        without all that this one is to keep, or another process writes to it.
      EmpirError: if `out` cannot be written, or the attack gives NaN, leaves the range of images or
        its ball.
    """
    head = json.loads(json.dumps(job.describe()))
    if out is None:
        return _evaluate(job, session, head, None, resume, progress, place)
    runs.check_writable(out)
    if shard is not None:
        with locks.lock(out):
            return _evaluate_part(job, session, head, out, resume, progress, place, shard)
    asked = out, head, job.columns(), resume
    record = finished.evaluation_record(*asked)
    left = [os.path.lexists(os.path.join(out, name)) for name in (runs.PARTIAL, locks.LOCK)]
    if record is not None and not any(left):
        return Result(record, {})  # also from a folder that cannot be written
    with locks.lock(out):
        record = finished.evaluation_record(*asked)  # another process may have finished it
        if record is None:
            return _evaluate(job, session, head, out, resume, progress, place)
        chunks.ChunkStore(os.path.join(out, runs.PARTIAL)).remove()  # it was killed at the end
        return Result(record, {})


def _evaluate(job, session, head, out, resume, progress, place):
    """Run an attack, or the part of it that is not finished."""
    began, started = time.perf_counter(), _now()
    attacker = attackers.JobAttacker(job, session)  # first, as it checks the parameters
    partial = None if out is None else os.path.join(out, runs.PARTIAL)
    store = chunks.ChunkStore(partial, runs.digest(head), runtime.parallelism())
    if out is not None:
        runs.claim(partial, head, resume, "evaluation")
    parts = job.chunks()
    starts = runner.chunk_starts(parts)
    bar = dict(title=_title(job), show=progress, place=place)
    runner.fill(store, parts, job.columns(), _computing(attacker, job, place), **bar)
    record = dict(head, **measure(head, job.columns(), store, starts))
    record.update(_how_made(attacker, began, started, record["seconds"]))
    record.update(places.describe(places.workers(store, starts), record["seconds"]["total"]))
    if out is None:
        return Result(record, {name: store.column(name, starts) for name in job.columns()})
    _write(out, record, job.columns(), store, starts, job.numbers)
    store.remove()
    return Result(record, {})


def _computing(attacker, job, place):
    sent = replace(job, ensemble=None, data=None)
    networks = Networks(None, job.ensemble)
    remote = functools.partial(attackers.of_job, sent, attackers.digests(networks))
    return place.computing(attacker, remote)


def _now():
    return datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:%SZ")


def _title(job):
    return f"{job.attack} on {job.data.name}"


def _how_made(attacker, began, started, seconds):
    """What a record says of its making."""
    build, total = round(attacker.build_seconds, 3), round(time.perf_counter() - began, 3)
    return dict(
        seconds=dict(seconds, build=build, total=total),
        peak_memory_mb=provenance.peak_memory_mb(),
        **provenance.of_run(),
        started=started,
    )


def _write(out, record, columns, store, starts, numbers):
    """Write examples.npz, images.npz unless `numbers` is None, and result.json, which is last."""
    examples = store.write_npz(os.path.join(out, finished.EXAMPLES), columns, starts)
    record["examples_sha256"] = examples
    if numbers is not None:
        names = [f"{name}_{kind}" for name in ("clean", "adversarial") for kind in DECIDERS]
        arrays = {name: store.column(name, starts) for name in ("label", *names, "l2", "linf")}
        found = per_image.of_attack(record["attack"]["name"], record["combine"], numbers, arrays)
        per_image.write(os.path.join(out, per_image.NAME), found)
    runs.write_json(os.path.join(out, finished.RESULT), record)


def _evaluate_part(job, session, head, out, resume, progress, place, shard):
    """Compute the chunks of a shard that are not finished, and say what they are a part of."""
    began, started = time.perf_counter(), _now()
    parts, columns = job.chunks(), job.columns()
    own = shard.range_of(len(parts))
    if os.path.lexists(os.path.join(out, finished.RESULT)):
        raise ResumeError(f"{out} holds a whole evaluation: use another --out for a shard of one")
    attacker = attackers.JobAttacker(job, session)  # first, as it checks the parameters
    partial = os.path.join(out, runs.PARTIAL)
    runs.claim(partial, shards.describe(head, shard), resume, "evaluation")
    store = chunks.ChunkStore(partial, runs.digest(head), runtime.parallelism())
    starts, mine = runner.chunk_starts(parts), [parts[number] for number in own]
    bar = dict(title=f"{_title(job)}, shard {shard}", show=progress, place=place)
    each = _computing(attacker, job, place)
    runner.fill(store, mine, columns, each, first=starts[own[0]], **bar)
    shards.write(
        out,
        head,
        shard,
        columns=columns,
        numbers=None if job.numbers is None else job.numbers[np.concatenate(mine)].tolist(),
        chunks=[(starts[number], len(parts[number])) for number in own],
        how=runtime.parallelism(),
        environment=provenance.environment(),
        **_how_made(attacker, began, started, {}),
    )
    log.info("%s is shard %s, finished; empir merge makes the whole of all shards", out, shard)


def merge(parts: Sequence[shards.Part], out: str) -> dict:
    """Make the evaluation of all its shards; returns its record.

    Args:
      parts: of one evaluation, which `shards.check_whole` has accepted.
      out: folder for result.json and examples.npz, as of `evaluate`.

    Raises:
      EmpirError: if a chunk is missing or damaged, or `out` cannot be written.
      ResumeError: if `out` holds another run.
    """
    content = parts[0].content
    head, columns = content["head"], content["columns"]
    runs.check_writable(out)
    with locks.lock(out):
        record = finished.evaluation_record(out, head, columns, True)
        if record is not None:
            return record
        store, starts = shards.merge(parts)
        record = dict(head, **measure(head, columns, store, starts))
        told = [part.content for part in sorted(parts, key=lambda part: part.shard.number)]
        for key in ("build", "total"):
            summed = sum(part["seconds"][key] for part in told)
            record["seconds"][key] = round(summed, 3)
        record["peak_memory_mb"] = max(part["peak_memory_mb"] for part in told)
        for key in ("versions", "git_commit"):
            record[key] = content[key]
        record.update(command=provenance.command(), started=min([part["started"] for part in told]))
        record["shards"] = [
            {key: part[key] for key in ("shard", "command", "started", "seconds", "environment")}
            for part in told
        ]
        numbers = None
        if content.get("numbers") is not None:
            numbers = np.concatenate([part["numbers"] for part in told])
        _write(out, record, columns, store, starts, numbers)
    return record
