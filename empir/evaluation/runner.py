"""Attack an ensemble on a dataset, chunk by chunk, resumably -> one result record.

Per chunk there is one graph call for the clean images and one for the attack, which returns the
adversarial images together with every member's logits on them. Nothing that grows with the number
of images is held but the per-example results.
"""

import datetime
import json
import logging
import os
import time
from typing import Callable, List, NamedTuple, Optional, Sequence

import numpy as np

from empir import attacks, runtime
from empir.attacks.base import in_shares
from empir.data import Dataset
from empir.errors import EmpirError
from empir.evaluation import finished
from empir.evaluation.measures import (
    SCORED_RULES,
    distances,
    label_ranks,
    measure,
    refuse,
    require_valid,
)
from empir.models.ensemble import DECISION_RULES, Ensemble
from empir.models.model import describe_members
from empir.records import chunks, runs
from empir.runtime import progress_bar, tf

log = logging.getLogger(__name__)

SCHEMA = 1

#: Number of classes from which on top-5 accuracy is measured too.
TOP5_CLASSES = 100

#: Of how many images, and of how many targets of each, examples are shown.
SHOWN_IMAGES, SHOWN_TARGETS = 10, 9


class Job(NamedTuple):
    """What an evaluation computes: everything that determines its numbers.

    Attributes:
      ensemble: members, decision rule and attack target.
      attack: canonical name of the attack.
      parameters: its full parameters, by CleverHans' names.
      data: clean images and true labels.
      seed: of random starts and random targets.
      batch_size: images per graph call; CW's batch.
      targeted: attack towards every class but the true one: (classes - 1) examples per image.
      save_adversarial: keep the adversarial images too.
      architecture, protocol: names for the record; protocol None if the rule and target are no
        named protocol's.
      options: how the members were built, if not by default, e.g. {"nb_filters": 32}.
      show: called with the arrays of the first examples (`_shown`) before the record is written;
        None shows nothing.
    """

    ensemble: Ensemble
    attack: str
    parameters: dict
    data: Dataset
    seed: int
    batch_size: int
    targeted: bool = False
    save_adversarial: bool = False
    architecture: Optional[str] = None
    protocol: Optional[str] = None
    options: dict = {}
    show: Optional[Callable[[dict], None]] = None

    @property
    def has_top5(self) -> bool:
        """Whether the record holds top-5 accuracies."""
        return self.data.num_classes >= TOP5_CLASSES

    @property
    def num_examples(self) -> int:
        """Number of attacked examples."""
        return len(self.data.labels) * self.per_image

    @property
    def per_image(self) -> int:
        """Number of examples of an image."""
        return self.data.num_classes - 1 if self.targeted else 1

    def starts(self) -> Sequence[int]:
        """Index of each chunk's first example."""
        return range(0, self.num_examples, self.batch_size)

    def rows(self, start: int) -> np.ndarray:
        """Indices of the examples of the chunk at `start`."""
        return np.arange(start, min(start + self.batch_size, self.num_examples))

    def is_shown(self, rows) -> np.ndarray:
        """Which examples are shown: the first targets of the first images; bool [n]."""
        image, target = np.divmod(rows, self.per_image)
        return (image < SHOWN_IMAGES) & (target < SHOWN_TARGETS) & (self.show is not None)

    def columns(self) -> List[str]:
        """Names of the arrays of examples.npz, in order."""
        names = ("clean", "adversarial")
        columns = ["index", "label"]
        columns += ["%s_%s" % (n, r) for n in names for r in DECISION_RULES + ("members",)]
        if self.has_top5:
            columns += ["%s_rank_%s" % (n, r) for n in names for r in SCORED_RULES]
        columns += ["l2", "linf", "changed"]
        columns += ["target"] if self.has_targets else []
        if self.save_adversarial:
            columns += ["adversarial", "adversarial_logits", "clean_logits"]
        return columns

    @property
    def has_targets(self) -> bool:
        """Whether each example has a class that it is to become."""
        return self.targeted or self.draws_targets

    @property
    def draws_targets(self) -> bool:
        """Whether a run without targets draws them, as the attack takes nothing else (JSMA)."""
        row = attacks.row(self.attack)
        return not self.targeted and row.takes("y_target") and not row.takes("y")

    def describe(self) -> dict:
        """The head of the record: what is computed, as plain data."""
        ensemble = self.ensemble
        described = describe_members(ensemble.members, self.options)
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
            ),
            "num_examples": self.num_examples,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "data": self.data.describe(),
        }


class _Graph:
    """The operations of an evaluation; built once, run per chunk."""

    def __init__(self, job: Job, session):
        started = time.perf_counter()
        ensemble, classes = job.ensemble, job.data.num_classes
        self.session = session
        self.images = tf.placeholder(tf.float32, (None,) + job.data.images.shape[1:], "images")
        self.labels = tf.placeholder(tf.float32, [None, classes], "labels")
        self.index = tf.placeholder(tf.int64, [None], "index")
        self.clean = self._outputs(ensemble, self.images)
        attack = attacks.create(job.attack, ensemble.target(job.attack), session)
        feeds = _feeds(job, self.labels, self.index)
        self.adversarial = attack.generate(self.images, **dict(job.parameters, **feeds))
        self.adversarial.set_shape(self.images.shape)
        self.attacked = self._outputs(ensemble, self.adversarial)
        self.build_seconds = time.perf_counter() - started

    @staticmethod
    def _outputs(ensemble, images):
        def outputs(images):
            logits = ensemble.member_logits(images)
            stacked = tf.stack(logits, axis=1)
            members = tf.argmax(stacked, axis=2)
            return dict(ensemble.decisions(logits), logits=stacked, members=members)

        return in_shares(outputs, images)

    def run(self, job: Job, start: int) -> dict:
        """Per-example arrays of the chunk at `start`."""
        rows = job.rows(start)
        image_rows, target = rows, None
        if job.targeted:
            image_rows, target = _targets(rows, job.data)
        images, labels = job.data.images[image_rows], job.data.labels[image_rows]
        began = time.perf_counter()
        clean = self.session.run(self.clean, {self.images: images})
        cleaned = time.perf_counter()
        if job.draws_targets:
            target = _random_targets(rows, clean[job.ensemble.combine], job)
        towards = clean[job.ensemble.combine] if target is None else target
        feed = {
            self.images: images,
            self.labels: np.eye(job.data.num_classes, dtype=np.float32)[towards],
            self.index: rows,
        }
        attacked, adversarial = self.session.run([self.attacked, self.adversarial], feed)
        seconds = (cleaned - began, time.perf_counter() - cleaned)
        _check(job, rows, images, adversarial, clean, attacked)
        arrays = dict(distances(images, adversarial), label=labels, seconds=np.array([seconds]))
        arrays["index"] = image_rows.astype(np.int64)
        for name, outputs in (("clean", clean), ("adversarial", attacked)):
            for rule in DECISION_RULES + ("members",):
                arrays["%s_%s" % (name, rule)] = outputs[rule].astype(np.int16)
            if job.has_top5:
                ranked = label_ranks(outputs["logits"], labels, job.ensemble.temperature)
                for rule, ranks in ranked.items():
                    arrays["%s_rank_%s" % (name, rule)] = ranks
        if target is not None:
            arrays["target"] = target.astype(np.int64)
        if job.save_adversarial:
            arrays["adversarial"] = adversarial
            arrays["adversarial_logits"] = attacked["logits"]
            arrays["clean_logits"] = clean["logits"]
        if job.is_shown(rows).any():
            arrays["shown"] = adversarial[job.is_shown(rows)]
        return arrays


def _feeds(job, labels, index):
    """What the attack is given beside the images: of labels, targets and index what it takes."""
    row = attacks.row(job.attack)
    name = "y_target" if job.has_targets else "y"
    if job.has_targets and not row.takes(name):
        raise EmpirError("--targeted: the attack %s takes no targets" % job.attack)
    feeds = {name: labels, "index": index}
    return {name: tensor for name, tensor in feeds.items() if row.takes(name)}


def _targets(rows, data):
    """Image and target class of targeted examples: every class but the true one, in order."""
    others = data.num_classes - 1
    image_rows, target = rows // others, rows % others
    return image_rows, target + (target >= data.labels[image_rows])


def _random_targets(rows, decided, job):
    """A class other than the decided one per example, a function of (seed, example index)."""
    shifts = [
        np.random.RandomState([job.seed, row]).randint(1, job.data.num_classes) for row in rows
    ]
    return (decided + np.array(shifts)) % job.data.num_classes


def _check(job, rows, images, adversarial, clean, attacked):
    """An adversarial image counts only if it is finite, in range and inside its ball."""
    outputs = dict(adversarial=adversarial, attacked=attacked["logits"], clean=clean["logits"])
    require_valid(job.attack, rows, job.data.clip_range, **outputs)
    if attacks.row(job.attack).has_ball(job.parameters):
        radius = np.abs(adversarial - images).reshape(len(rows), -1).max(axis=1)
        outside = radius > job.parameters["eps"] + 1e-6
        refuse(job.attack, rows, "leaves the ball of radius eps", outside)


def evaluate(job: Job, session, out=None, resume=False, progress=True) -> dict:
    """Run an evaluation and return its record.

    Args:
      job: what to compute.
      session: session that holds the members' weights.
      out: folder for result.json and examples.npz; while the run is under way it holds the
        finished chunks. None keeps nothing.
      resume: continue an unfinished run in `out`, or return the record of a finished one.
      progress: show a progress bar.

    Returns:
      The record, as in result.json (docs/commands.md, Records).

    Raises:
      ResumeError: if `out` holds another run, or this one and `resume` is False, or a finished one
        without all that this one is to keep, or another process writes to it.
      EmpirError: if `out` cannot be written, or the attack gives NaN, leaves the range of images or
        its ball.
    """
    head = json.loads(json.dumps(job.describe()))
    if out is None:
        return _evaluate(job, session, head, None, resume, progress)
    runs.check_writable(out)
    asked = out, head, job.columns(), resume
    record = finished.evaluation_record(*asked)
    left = [os.path.lexists(os.path.join(out, name)) for name in (runs.PARTIAL, runs.LOCK)]
    if record is not None and not any(left):
        return record  # also from a folder that cannot be written
    with runs.lock(out):
        record = finished.evaluation_record(*asked)  # another process may have finished it
        if record is None:
            return _evaluate(job, session, head, out, resume, progress)
        chunks.ChunkStore(os.path.join(out, runs.PARTIAL)).remove()  # it was killed at the end
        return record


def _evaluate(job, session, head, out, resume, progress):
    """Run an evaluation, or what is left of it, and return its record."""
    began, started = time.perf_counter(), datetime.datetime.utcnow()
    graph = _Graph(job, session)  # before anything is written: it checks the attack's parameters
    partial = None if out is None else os.path.join(out, runs.PARTIAL)
    store = chunks.ChunkStore(partial, runs.digest(head), runtime.parallelism())
    if out is not None:
        runs.claim(partial, head, resume, "evaluation")
    _fill(store, job, graph, progress)
    if job.show:
        job.show(_shown(job, store))
    record = dict(head, **measure(job, store))
    record["seconds"].update(
        build=round(graph.build_seconds, 3), total=round(time.perf_counter() - began, 3)
    )
    record["peak_memory_mb"] = runtime.peak_memory_mb()
    record["versions"], record["git_commit"] = runtime.provenance()
    record["command"] = runtime.command()
    record["started"] = started.strftime("%Y-%m-%dT%H:%M:%SZ")
    if out is not None:
        examples = store.write_npz(
            os.path.join(out, finished.EXAMPLES), job.columns(), job.starts()
        )
        record["examples_sha256"] = examples
        runs.write_json(os.path.join(out, finished.RESULT), record)
        store.remove()
    return record


def _fill(store, job, graph, progress):
    """Compute the chunks that a store does not hold."""
    todo = [s for s in job.starts() if not store.holds(s, len(job.rows(s)), _keys(job, s))]
    done = job.num_examples - sum(len(job.rows(start)) for start in todo)
    if done:
        log.info("resuming: %d of %d examples are done", done, job.num_examples)
    title = "%s on %s" % (job.attack, job.data.name)
    with progress_bar(job.num_examples, title, "image", progress) as bar:
        bar.update(done)
        for start in todo:
            arrays = graph.run(job, start)
            store.add(start, len(job.rows(start)), arrays)
            bar.update(len(arrays["label"]))


def _keys(job, start):
    """Arrays that this command needs of a chunk; one of fewer options may have kept fewer."""
    return job.columns() + (["shown"] if job.is_shown(job.rows(start)).any() else [])


def _shown(job, store) -> dict:
    """Arrays of the shown examples by their names in `empir.report.pairs.Pairs`."""
    starts = [start for start in job.starts() if job.is_shown(job.rows(start)).any()]
    rows = np.concatenate([job.rows(start) for start in starts])
    chosen = job.is_shown(rows)
    names = {"label": "label", "l2": "l2", "linf": "linf"}
    names["clean_decision"] = "clean_" + job.ensemble.combine
    names["decision"] = "adversarial_" + job.ensemble.combine
    if job.has_targets:
        names["target"] = "target"
    arrays = {name: store.column(key, starts)[chosen] for name, key in names.items()}
    images, place = np.unique(rows[chosen] // job.per_image, return_inverse=True)
    clean, adversarial = job.data.images[images][place], store.column("shown", starts)
    return dict(arrays, clean=clean, adversarial=adversarial, image=images[place])
