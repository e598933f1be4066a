"""The training loop: Adam on any of `empir.training.objectives`, as the original (docs/original.md,
Training).

What leaves the original: shuffling is a function of (seed, epoch), so that a killed run resumes to
the same weights; the state is kept after each epoch and, in long ones, every ten minutes; batch
normalisation's statistics are updated for full-precision networks too (docs/original.md, Defects
21); the released checkpoint that it writes holds the weights only.
"""

import contextlib
import json
import logging
import os
import time
from dataclasses import dataclass, field, replace
from typing import Optional, Sequence

import numpy as np

from empir import runtime
from empir.data import Dataset
from empir.errors import EmpirError
from empir.models import checkpoints
from empir.records import provenance, runs
from empir.runtime import progress_bar, tf
from empir.training import summaries, training_folder
from empir.training.graph import Graph, Settings
from empir.training.workers import Alone

log = logging.getLogger(__name__)

EVALUATION_BATCH = 1000  # images, of small ones
EVALUATION_PIXELS = 2**24  # and pixels, of large ones
SAVE_SECONDS = 600


def epoch_batches(order: np.ndarray, batch_size: int):
    """Index arrays of one epoch's batches, from the examples' order.

    Every example occurs; all batches are full, the last one repeating earlier examples
    (docs/original.md, Training).
    """
    size = min(batch_size, len(order))
    starts = list(range(0, len(order) - size + 1, size))
    if starts[-1] + size < len(order):
        starts.append(len(order) - size)
    return [order[start : start + size] for start in starts]


def train(
    settings: Settings,
    data: Dataset,
    directory: Optional[str] = None,
    *,
    resume: bool = False,
    keep_state: bool = False,
    logdir: Optional[str] = None,
    initial: Optional[dict] = None,
    devices: Optional[Sequence[str]] = None,
    workers: Alone = Alone(),
    **arguments,
) -> dict:
    """Train a member and return its weights under their released names.

    Args:
      settings: what to train.
      data: training images and labels.
      directory: where to keep the state while training and, at the end, the released checkpoint and
        training.json, which says how it was made; None keeps nothing.
      resume: continue from the last state in `directory`; if the training there is over, train it
        on to more epochs, which gives the weights of as many epochs at once.
      keep_state: keep the optimizer's state, three times the size of the weights or more, when the
        training is over: `resume` with more epochs goes on from it, else it begins anew.
      logdir: folder for TensorBoard summaries of loss and accuracy.
      initial: weights to start from, under their released names; None = random ones. Unless the
        settings name a width, it is that of these weights.
      devices: that share each batch; None = all visible GPUs.
      workers: processes that share each batch, see `workers.from_environment`. Each of them calls
        this with the same arguments, and the first one writes.
      **arguments: `test`, `test_each_epoch`, `progress` and `soft_labels` of `Run`.

    Raises:
      ResumeError: if `directory` holds another training or its state, this one without `resume`,
        or is in use by another process.
      CheckpointError: if `initial` is of another network, precision or width.
      EmpirError: for settings out of range, if something cannot be written, or if the loss becomes
        NaN.
    """
    settings = _checked(settings, initial)
    description = dict(settings.describe(data), initial=initial and checkpoints.digest(initial))
    run = Run(settings, data, workers=workers, **arguments)
    workers.check(min(settings.batch_size, len(data.labels)))
    with contextlib.ExitStack() as stack:
        if directory:
            folder = training_folder.Folder(directory, description)
            if workers.is_chief:
                folder = stack.enter_context(training_folder.opened(directory, description))
            folder.inspect(resume, settings.defaults())
            run.folder = folder
            if folder.is_over:
                log.info("%s holds this network, trained to its end", directory)
                return checkpoints.read_member(directory, settings.network, settings.precisions)
        if logdir and workers.is_chief:
            run.writer = stack.enter_context(contextlib.closing(summaries.Writer(logdir)))
        arrays = run.finish(resume, initial, runtime.gpus() if devices is None else devices)
        if directory and workers.is_chief:
            _keep(run, description, arrays, keep_state)
    return arrays


def _checked(settings, initial):
    """The settings, of the width of the weights to start from."""
    settings.check()
    if not initial:
        return settings
    options = checkpoints.with_width(settings.network, initial, settings.options)
    return replace(settings, options=options)


def _keep(run, description, arrays, keep_state):
    """Write the checkpoint and training.json, which ends the training."""
    record = dict(
        description,
        sha256=checkpoints.digest(arrays),
        clean_accuracy=run.history[-1].get("test_accuracy"),
        history=run.history,
        environment=provenance.environment(),
        **provenance.of_run(),
        **({"workers": run.workers.count} if run.workers.count > 1 else {}),
    )
    folder = run.folder
    with _written_to(folder.path):
        checkpoints.save(folder.path, arrays)
        path = os.path.join(folder.path, checkpoints.RECORD)
        runs.write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
        folder.finish(keep_state)


@contextlib.contextmanager
def _written_to(path):
    """What the system answers to writing below `path` becomes an `EmpirError` of one line."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise EmpirError(f"cannot write to {path}: {reason}")


def evaluate(graph: Graph, session, data: Dataset) -> float:
    """Fraction of `data` that the network being trained classifies correctly."""
    correct = 0.0
    size = min(EVALUATION_BATCH, max(1, EVALUATION_PIXELS // int(np.prod(data.images.shape[1:]))))
    for start in range(0, len(data.labels), size):
        rows = np.arange(start, min(start + size, len(data.labels)))
        feed = {graph.images: data.images[rows], graph.labels: data.labels[rows]}
        feed[graph.training] = False
        correct += session.run(graph.accuracy, feed) * len(rows)
    return correct / len(data.labels)


@dataclass(eq=False)
class Run:
    """A training: what it needs, and how far it is.

    Attributes:
      settings, data: see `train`.
      test: test images, for the accuracy at the end.
      test_each_epoch: measure that accuracy after each epoch.
      progress: show a progress bar with loss and accuracy.
      soft_labels: a teacher's probabilities of the training images, float32 [n, classes], in the
        order of `data`; for `objectives.Distillation` (see `empir.training.distillation`).
      folder: the `training_folder.Folder` that keeps its state, if one does.
      writer: the `summaries.Writer` of its loss and accuracy, if there is one.
      workers: the processes that share each batch.
      history: what was measured, of each finished epoch.
      sums: sums over the steps of the epoch under way, of the loss, of the accuracy, and of 1.
    """

    settings: Settings
    data: Dataset
    test: Optional[Dataset] = None
    test_each_epoch: bool = False
    progress: bool = True
    soft_labels: Optional[np.ndarray] = None
    folder: Optional[training_folder.Folder] = None
    writer: Optional[summaries.Writer] = None
    workers: Alone = Alone()
    history: list = field(default_factory=list)
    sums: np.ndarray = field(default_factory=lambda: np.zeros(3))
    _graph: Optional[Graph] = None
    _session: Optional[tf.Session] = None
    _saved: float = field(default_factory=time.monotonic)  # when the state was saved last

    def finish(self, resume: bool, initial: Optional[dict], devices: Sequence[str]) -> dict:
        """Run the epochs that are left; returns the weights. Arguments as of `train`."""
        with tf.Graph().as_default() as graph, self.workers.session(graph) as session:
            soft = self.soft_labels is not None
            self._graph = Graph(self.settings, devices, soft, self.workers)
            self._session = session
            with self.workers.watched():
                self._initialize(resume, initial)
                self._run_epochs()
            return self._graph.released_arrays(session)

    def _initialize(self, resume, initial):
        """Initialize or restore the variables, and make the folder that of this training."""
        self._graph.initialize(self._session, initial)
        self.workers.note_all_there()  # as they share their first weights
        if self.folder and self.workers.is_chief:
            with _written_to(self.folder.path):
                self.folder.begin(resume)
        self._meet()  # so that all read the folder as it was begun
        if self.folder:
            self._restore()

    def _run_epochs(self):
        """Run the epochs that are left."""
        if self.writer:
            self.writer.add_graph(self._session.graph)
        for epoch in range(len(self.history), self.settings.epochs):
            self.history.append(self._measured(epoch))
            self.sums[:] = 0
            self._save()
        self._meet()  # the others stay until the chief has tested and saved

    def _meet(self):
        """Wait for the other processes, if there are any."""
        if self._graph.meeting is not None:
            self._session.run(self._graph.meeting)

    def _measured(self, epoch):
        """Run an epoch, or the rest of it, and test the network if that is due."""
        measured = self._epoch(epoch)
        due = self.test_each_epoch or epoch == self.settings.epochs - 1
        if self.test is not None and due and self.workers.is_chief:
            accuracy = evaluate(self._graph, self._session, self.test)
            measured["test_accuracy"] = round(accuracy, 6)
            log.info("epoch %d: test accuracy %.4f", epoch + 1, measured["test_accuracy"])
        return measured

    def _epoch(self, epoch):
        """Run an epoch, or the rest of it; its mean loss and training accuracy."""
        settings = self.settings
        order = self.data.order(settings.seed, epoch)
        batches = epoch_batches(order, settings.batch_size)
        done = int(self.sums[2])
        own = [self.workers.part(rows) for rows in batches[done:]]
        stream = zip(own, self.data.stream(own, settings.seed, epoch))
        title = f"epoch {epoch + 1}/{settings.epochs}"
        size = len(batches[0])
        shown = self.progress and self.workers.is_chief
        with progress_bar(len(batches) * size, title, "image", shown) as bar:
            bar.update(done * size)
            for rows, (images, labels) in stream:
                loss, accuracy = self._step(epoch, rows, images, labels)
                self.sums += (loss, accuracy, 1)
                mean = self.sums[:2] / self.sums[2]
                bar.set_postfix(loss=f"{mean[0]:.4f}", accuracy=f"{mean[1]:.4f}")
                bar.update(size)
                if time.monotonic() - self._saved > SAVE_SECONDS:
                    self._save()
        loss, accuracy = self.sums[:2] / self.sums[2]
        if self.workers.is_chief:
            log.info("%s: loss %.4f, training accuracy %.4f", title, loss, accuracy)
        return {"loss": round(loss, 6), "training_accuracy": round(accuracy, 6)}

    def _step(self, epoch, rows, images, labels):
        graph, rate = self._graph, self.settings.rate(epoch)
        feed = {
            graph.images: images,
            graph.labels: labels,
            graph.rate: rate,
            graph.training: True,
        }
        if graph.soft_labels is not None:
            feed[graph.soft_labels] = self.soft_labels[rows]
        phase = graph.phase(epoch)
        _, loss, accuracy, step = self._session.run(
            [phase.step, phase.loss, phase.accuracy, graph.global_step], feed
        )
        if not np.isfinite(loss):
            raise EmpirError(
                f"the loss became {loss} at step {step}: try a smaller learning rate than {rate:g}"
            )
        if self.writer:
            self.writer.add(step, loss=loss, accuracy=accuracy, learning_rate=rate)
        return loss, accuracy

    def _save(self):
        """Keep weights, optimizer and history."""
        self._saved = time.monotonic()
        if self.writer:
            self.writer.flush()
        if not self.folder or not self.workers.is_chief:
            return
        step = int(self._session.run(self._graph.global_step))

        def write(prefix):
            self._graph.saver.save(self._session, prefix, write_meta_graph=False, write_state=False)

        with _written_to(self.folder.path):
            self.folder.save(write, step, self.history, self.sums.tolist())

    def _restore(self):
        kept = self.folder.progress()
        if kept is None:
            return
        self._graph.saver.restore(self._session, kept.prefix)
        self.history, self.sums = list(kept.history), np.array(kept.sums)
        log.info("resuming after epoch %d, step %d", len(self.history), kept.step)
