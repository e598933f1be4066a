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
from typing import Optional, Sequence

import numpy as np

from empir import runtime
from empir.data import Dataset
from empir.errors import EmpirError
from empir.models import checkpoints, identity
from empir.records import runs
from empir.runtime import progress_bar, tf
from empir.training import summaries, training_folder
from empir.training.graph import Graph, Settings

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
    resume: bool = False,
    logdir: Optional[str] = None,
    test: Optional[Dataset] = None,
    test_each_epoch: bool = False,
    progress: bool = True,
    devices: Optional[Sequence[str]] = None,
    soft_labels: Optional[np.ndarray] = None,
    initial: Optional[dict] = None,
    keep_state: bool = False,
) -> dict:
    """Train a member and return its weights under their released names.

    Args:
      settings: what to train.
      data: training images and labels.
      directory: where to keep the state while training and, at the end, the released checkpoint and
        training.json, which says how it was made; None keeps nothing.
      resume: continue from the last state in `directory`; if the training there is over, train it
        on to more epochs, which gives the weights of as many epochs at once.
      logdir: folder for TensorBoard summaries of loss and accuracy.
      test: test images, for the accuracy at the end.
      test_each_epoch: measure that accuracy after each epoch.
      progress: show a progress bar with loss and accuracy.
      devices: that share each batch; None = all visible GPUs.
      soft_labels: a teacher's probabilities of the training images, float32 [n, classes], in the
        order of `data`; for `objectives.Distillation` (see `empir.training.distillation`).
      initial: weights to start from, under their released names; None = random ones. Unless the
        settings name a width, it is that of these weights.
      keep_state: keep the optimizer's state when the training is over, three times the size of the
        weights or more, so that a later `resume` with more epochs goes on from there. Without it
        the network is trained again from the beginning then, to the same weights.

    Raises:
      ResumeError: if `directory` holds another training or its state, this one without `resume`,
        or is in use by another process.
      CheckpointError: if `initial` is of another network, precision or width.
      EmpirError: for settings out of range, if something cannot be written, or if the loss becomes
        NaN.
    """
    settings, description = _described(settings, data, initial)
    rest = dict(test=test, test_each_epoch=test_each_epoch, progress=progress, devices=devices)
    rest.update(soft_labels=soft_labels, initial=initial)
    with contextlib.ExitStack() as stack:
        folder = None
        if directory:
            folder = stack.enter_context(training_folder.opened(directory, description))
            folder.inspect(resume, settings.defaults())
            if folder.is_over:
                log.info("%s holds this network, trained to its end", directory)
                return checkpoints.read_member(directory, settings.network, settings.precisions)
        writer = None
        if logdir:
            writer = stack.enter_context(contextlib.closing(summaries.Writer(logdir)))
        arrays, history = _train(settings, data, folder, resume, writer, **rest)
        if folder:
            _keep(folder, description, arrays, history, keep_state)
    return arrays


def _described(settings, data, initial):
    """The settings, of the width of the initial weights, and what determines the weights."""
    settings.check()
    if initial:
        options = identity.with_width(settings.network, initial, settings.options)
        settings = settings._replace(options=options)
    first = initial and checkpoints.digest(initial)
    return settings, dict(settings.describe(data), initial=first)


def _keep(folder, description, arrays, history, keep_state):
    """Write the checkpoint and training.json, which ends the training."""
    with _written_to(folder.path):
        checkpoints.save(folder.path, arrays)
        _write_record(folder.path, description, arrays, history)
        folder.finish(keep_state)


def _train(
    settings,
    data,
    folder,
    resume,
    writer,
    test,
    test_each_epoch,
    progress,
    devices,
    soft_labels,
    initial,
):
    """(weights, history) at the end of a training; arguments as of `train`."""
    with tf.Graph().as_default(), runtime.session() as session:
        devices = runtime.gpus() if devices is None else devices
        graph = Graph(settings, devices, soft_labels is not None)
        _initialize(graph, settings, session, initial)
        if folder:
            with _written_to(folder.path):
                folder.begin(resume)
        if writer:
            writer.add_graph(session.graph)
        run = _Run(settings, data, graph, session, folder, writer, progress, soft_labels)
        run.finish(test, test_each_epoch)
        arrays = checkpoints.released_arrays(
            settings.network, settings.precisions, graph.model, session
        )
        return arrays, run.history


@contextlib.contextmanager
def _written_to(path):
    """What the system answers to writing below `path` becomes an `EmpirError` of one line."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise EmpirError("cannot write to %s: %s" % (path, reason))


def _initialize(graph, settings, session, initial):
    session.run(tf.global_variables_initializer())
    if initial:
        network, precisions = settings.network, settings.precisions
        where = "to start from"
        checkpoints.assign(initial, network, precisions, graph.model, session, where)


def _write_record(directory, description, arrays, history):
    versions, commit = runtime.provenance()
    record = dict(
        description,
        sha256=checkpoints.digest(arrays),
        clean_accuracy=history[-1].get("test_accuracy"),
        history=history,
        command=runtime.command(),
        versions=versions,
        git_commit=commit,
    )
    path = os.path.join(directory, identity.RECORD)
    runs.write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def evaluate(graph: Graph, session, data: Dataset) -> float:
    """Fraction of `data` that the network being trained classifies correctly."""
    correct = 0.0
    size = min(EVALUATION_BATCH, max(1, EVALUATION_PIXELS // int(np.prod(data.images.shape[1:]))))
    for start in range(0, len(data.labels), size):
        rows = np.arange(start, min(start + size, len(data.labels)))
        feed = {graph.images: data.images[rows], graph.labels: data.labels[rows]}
        feed[graph.training] = False
        correct += session.run(graph.phases[0].accuracy, feed) * len(rows)
    return correct / len(data.labels)


class _Run:
    """A training under way: its state on disk, and the epochs that it has finished.

    Attributes:
      history: per finished epoch, what was measured.
    """

    def __init__(self, settings, data, graph, session, folder, writer, progress, soft_labels):
        self._settings = settings
        self._data = data
        self._graph = graph
        self._session = session
        self._folder = folder
        self._writer = writer
        self._progress = progress
        self._soft_labels = soft_labels
        self.history = []
        self._sums = np.zeros(3)  # of the epoch under way: loss, accuracy, steps
        self._saved = time.monotonic()
        self._restore()

    def finish(self, test: Optional[Dataset], test_each_epoch: bool):
        """Run the epochs that are left, keeping the state after each; arguments as of `train`."""
        last = self._settings.epochs - 1
        for epoch in range(len(self.history), last + 1):
            measured = self._epoch(epoch)
            if test is not None and (test_each_epoch or epoch == last):
                accuracy = evaluate(self._graph, self._session, test)
                measured["test_accuracy"] = round(accuracy, 6)
                log.info("epoch %d: test accuracy %.4f", epoch + 1, measured["test_accuracy"])
            self.history.append(measured)
            self._sums[:] = 0
            self._save()

    def _epoch(self, epoch):
        """Run an epoch, or the rest of it; its mean loss and training accuracy."""
        settings = self._settings
        order = self._data.order(settings.seed, epoch)
        batches = epoch_batches(order, settings.batch_size)
        done = int(self._sums[2])
        stream = zip(batches[done:], self._data.stream(batches[done:], settings.seed, epoch))
        title = "epoch %d/%d" % (epoch + 1, settings.epochs)
        size = len(batches[0])
        with progress_bar(len(batches) * size, title, "image", self._progress) as bar:
            bar.update(done * size)
            for rows, (images, labels) in stream:
                loss, accuracy = self._step(epoch, rows, images, labels)
                self._sums += (loss, accuracy, 1)
                mean = self._sums[:2] / self._sums[2]
                bar.set_postfix(loss="%.4f" % mean[0], accuracy="%.4f" % mean[1])
                bar.update(size)
                if time.monotonic() - self._saved > SAVE_SECONDS:
                    self._save()
        loss, accuracy = self._sums[:2] / self._sums[2]
        log.info("%s: loss %.4f, training accuracy %.4f", title, loss, accuracy)
        return {"loss": round(loss, 6), "training_accuracy": round(accuracy, 6)}

    def _step(self, epoch, rows, images, labels):
        graph, rate = self._graph, self._settings.rate(epoch)
        feed = {
            graph.images: images,
            graph.labels: labels,
            graph.rate: rate,
            graph.training: True,
        }
        if graph.soft_labels is not None:
            feed[graph.soft_labels] = self._soft_labels[rows]
        phase = graph.phase(epoch)
        _, loss, accuracy, step = self._session.run(
            [phase.step, phase.loss, phase.accuracy, graph.global_step], feed
        )
        if not np.isfinite(loss):
            raise EmpirError(
                "the loss became %s at step %d: try a smaller learning rate than %g"
                % (loss, step, rate)
            )
        if self._writer:
            self._writer.add(step, loss=loss, accuracy=accuracy, learning_rate=rate)
        return loss, accuracy

    def _save(self):
        """Keep weights, optimizer and history."""
        self._saved = time.monotonic()
        if self._writer:
            self._writer.flush()
        if not self._folder:
            return
        step = int(self._session.run(self._graph.global_step))

        def write(prefix):
            self._graph.saver.save(self._session, prefix, write_meta_graph=False, write_state=False)

        with _written_to(self._folder.path):
            self._folder.save(write, step, self.history, self._sums.tolist())

    def _restore(self):
        kept = self._folder and self._folder.progress()
        if not kept:
            return
        self._graph.saver.restore(self._session, kept.prefix)
        self.history, self._sums = kept.history, np.array(kept.sums)
        log.info("resuming after epoch %d, step %d", len(self.history), kept.step)
