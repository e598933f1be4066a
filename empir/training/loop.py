"""The training loop: Adam at a constant rate on the cross-entropy, as the original (FACTS 2.5).

What leaves the original: shuffling is a function of (seed, epoch), so that a killed run resumes to
the same weights; the state of each epoch is kept until training has finished; the released
checkpoint that it writes holds the weights only.
"""

import json
import logging
import os
import shutil
from typing import NamedTuple, Optional

import numpy as np

from empir import checkpoints, runs, runtime
from empir.backend import tf
from empir.data import Dataset
from empir.ensemble import Member
from empir.errors import EmpirError
from empir.models import Architecture, weights
from empir.progress import progress_bar

log = logging.getLogger(__name__)

EVALUATION_BATCH = 1000
HISTORY = "history.json"


class Settings(NamedTuple):
    """What, with the data, determines the trained weights.

    Attributes:
      network: the architecture.
      precisions: precision per quantized layer.
      options: further arguments of `network.build`, e.g. {"nb_filters": 64}.
      epochs: passes over the training images.
      batch_size: images per step; the last batch of an epoch is topped up with earlier ones.
      learning_rate: Adam's constant rate.
      seed: of initial weights and shuffling.
      label_smoothing: probability that the training labels spread evenly over the wrong classes;
        the original's is 0.1 on CIFAR-10 (FACTS 2.5).
    """

    network: Architecture
    precisions: tuple
    options: dict
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    label_smoothing: float = 0.0

    def check(self):
        """Raise `EmpirError` for a value out of range."""
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise EmpirError("%s=%r must be positive" % (name, getattr(self, name)))
        if not 0 <= self.seed < 2**31:
            raise EmpirError("seed=%r must be 0..2^31 - 1" % self.seed)
        if not 0 <= self.label_smoothing < 1:
            raise EmpirError("label_smoothing=%r must be in [0, 1)" % self.label_smoothing)

    def describe(self, data: Dataset) -> dict:
        """The settings as plain data, with the digest of the training data."""
        plain = dict(self._asdict())
        plain.update(
            network=self.network.name,
            precisions=[str(p) for p in self.precisions],
            data=data.digest(),
        )
        return plain


class _Graph:
    """Placeholders and operations of one training graph."""

    def __init__(self, settings: Settings):
        tf.set_random_seed(settings.seed)
        self.model = settings.network.build(
            settings.precisions, seed=settings.seed, **settings.options
        )
        self.images = tf.placeholder(tf.float32, (None,) + settings.network.input_shape, "images")
        self.labels = tf.placeholder(tf.int64, [None], "labels")
        logits = Member(self.model, settings.precisions).get_logits(self.images)
        self.loss = cross_entropy(self.labels, logits, settings.label_smoothing)
        correct = tf.cast(tf.equal(tf.argmax(logits, 1), self.labels), tf.float32)
        self.accuracy = tf.reduce_mean(correct)
        self.global_step = tf.train.get_or_create_global_step()
        self.step = tf.train.AdamOptimizer(settings.learning_rate).minimize(
            self.loss, self.global_step, var_list=list(weights(self.model).values())
        )
        self.saver = tf.train.Saver(max_to_keep=1)


def cross_entropy(labels, logits, label_smoothing: float = 0.0):
    """Mean cross-entropy of a batch.

    Args:
      labels: int64 [n].
      logits: float32 [n, classes].
      label_smoothing: s: the target is 1 - s for the label and s / (classes - 1) for each other.
    """
    if not label_smoothing:
        return tf.losses.sparse_softmax_cross_entropy(labels, logits)
    classes = logits.shape[-1].value
    target = tf.one_hot(labels, classes, 1 - label_smoothing, label_smoothing / (classes - 1))
    return tf.losses.softmax_cross_entropy(target, logits)


def epoch_batches(count: int, batch_size: int, seed: int, epoch: int):
    """Index arrays of one epoch's batches, a function of (seed, epoch) alone.

    Every example occurs; all batches are full, the last one repeating earlier examples (FACTS 2.5).
    """
    order = np.random.RandomState([seed, epoch]).permutation(count)
    size = min(batch_size, count)
    starts = list(range(0, count - size + 1, size))
    if starts[-1] + size < count:
        starts.append(count - size)
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
) -> dict:
    """Train a member and return its weights under their released names.

    Args:
      settings: what to train.
      data: training images and labels.
      directory: where to keep the state of each epoch and, at the end, the released checkpoint and
        training.json, which says how it was made; None keeps nothing.
      resume: continue from the last finished epoch in `directory`.
      logdir: folder for TensorBoard summaries of loss and accuracy.
      test: test images, for the accuracy at the end.
      test_each_epoch: measure that accuracy after each epoch.
      progress: show a progress bar with loss and accuracy.

    Raises:
      ResumeError: if `directory` holds the state of another run, or of this one without `resume`.
      EmpirError: for settings out of range, or if the loss becomes NaN.
    """
    settings.check()
    state = directory and os.path.join(directory, runs.TRAINING)
    if state:
        runs.claim(state, settings.describe(data), resume, "training")
    with tf.Graph().as_default(), runtime.session() as session:
        graph = _Graph(settings)
        session.run(tf.global_variables_initializer())
        writer = tf.summary.FileWriter(logdir, session.graph) if logdir else None
        history = _restore(graph, session, state)
        for epoch in range(len(history), settings.epochs):
            measured = _run_epoch(graph, session, data, settings, epoch, writer, progress)
            if test is not None and (test_each_epoch or epoch + 1 == settings.epochs):
                measured["test_accuracy"] = round(evaluate(graph, session, test), 6)
                log.info("epoch %d: test accuracy %.4f", epoch + 1, measured["test_accuracy"])
            history.append(measured)
            if state:
                runs.write_atomically(os.path.join(state, HISTORY), json.dumps({"epochs": history}))
                graph.saver.save(session, os.path.join(state, "epoch"), epoch + 1)
        if writer:
            writer.close()
        arrays = checkpoints.released_arrays(
            settings.network, settings.precisions, graph.model, session
        )
    if directory:
        checkpoints.save(directory, arrays)
        _write_record(directory, settings, data, arrays, history)
        shutil.rmtree(state)
    return arrays


def _write_record(directory, settings, data, arrays, history):
    versions, commit = runtime.provenance()
    record = dict(
        settings.describe(data),
        sha256=checkpoints.digest(arrays),
        clean_accuracy=history[-1].get("test_accuracy"),
        history=history,
        command=runtime.command(),
        versions=versions,
        git_commit=commit,
    )
    path = os.path.join(directory, "training.json")
    runs.write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def evaluate(graph: _Graph, session, data: Dataset) -> float:
    """Fraction of `data` that the network being trained classifies correctly."""
    correct = 0.0
    for start in range(0, len(data.labels), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        feed = {graph.images: data.images[part], graph.labels: data.labels[part]}
        correct += session.run(graph.accuracy, feed) * len(data.labels[part])
    return correct / len(data.labels)


def _run_epoch(graph, session, data, settings, epoch, writer, progress):
    batches = epoch_batches(len(data.labels), settings.batch_size, settings.seed, epoch)
    losses, accuracies = [], []
    title = "epoch %d/%d" % (epoch + 1, settings.epochs)
    with progress_bar(len(batches), title, "batch", progress) as bar:
        for indices in batches:
            feed = {graph.images: data.images[indices], graph.labels: data.labels[indices]}
            _, loss, accuracy, step = session.run(
                [graph.step, graph.loss, graph.accuracy, graph.global_step], feed
            )
            if not np.isfinite(loss):
                raise EmpirError(
                    "the loss became %s at step %d: try a smaller learning rate than %g"
                    % (loss, step, settings.learning_rate)
                )
            losses.append(loss)
            accuracies.append(accuracy)
            bar.set_postfix(
                loss="%.4f" % np.mean(losses[-50:]), accuracy="%.4f" % np.mean(accuracies[-50:])
            )
            bar.update()
            if writer:
                _summarize(writer, step, loss=loss, accuracy=accuracy)
    loss, accuracy = np.mean(losses), np.mean(accuracies)
    log.info("%s: loss %.4f, training accuracy %.4f", title, loss, accuracy)
    return {"loss": round(float(loss), 6), "training_accuracy": round(float(accuracy), 6)}


def _summarize(writer, step, **values):
    items = [tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    writer.add_summary(tf.Summary(value=items), step)


def _restore(graph, session, state):
    """Restore the last finished epoch, if there is one; returns the history until then."""
    latest = state and tf.train.latest_checkpoint(state)
    if not latest:
        return []
    graph.saver.restore(session, latest)
    epoch = int(latest.rsplit("-", 1)[-1])
    log.info("resuming after epoch %d", epoch)
    return runs.read_json(os.path.join(state, HISTORY))["epochs"][:epoch]
