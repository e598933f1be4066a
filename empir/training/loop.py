"""The training loop: Adam on any of `empir.training.objectives`, as the original (FACTS 2.5).

What leaves the original: shuffling is a function of (seed, epoch), so that a killed run resumes to
the same weights; the state is kept after each epoch and, in long ones, every ten minutes; batch
normalisation's statistics are updated for full-precision networks too (FACTS 2.1 #21); the released
checkpoint that it writes holds the weights only.
"""

import json
import logging
import os
import shutil
import time
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

from empir import checkpoints, runs, runtime
from empir.backend import keras, tf
from empir.data import Dataset
from empir.ensemble import Member
from empir.errors import EmpirError
from empir.models import Architecture
from empir.progress import progress_bar
from empir.training import objectives

log = logging.getLogger(__name__)

EVALUATION_BATCH = 1000  # images, of small ones
EVALUATION_PIXELS = 2**24  # and pixels, of large ones
SAVE_SECONDS = 600


class Settings(NamedTuple):
    """What, with the data, determines the trained weights.

    Attributes:
      network: the architecture.
      precisions: precision per quantized layer.
      options: further arguments of `network.build`, e.g. {"nb_filters": 64}.
      epochs: passes over the training images.
      batch_size: images per step; the last batch of an epoch is topped up with earlier ones.
      learning_rate: Adam's rate at the start.
      seed: of initial weights, shuffling and distortions.
      label_smoothing: probability that the training labels spread evenly over the wrong classes;
        the original's is 0.1 on CIFAR-10 (FACTS 2.5).
      schedule: (epoch, rate) pairs: from that epoch on, counted from 0, the rate is another.
      adam_epsilon: Adam's epsilon.
      objective: one of `empir.training.objectives`.
    """

    network: Architecture
    precisions: tuple
    options: dict
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    label_smoothing: float = 0.0
    schedule: Tuple[Tuple[int, float], ...] = ()
    adam_epsilon: float = 1e-8
    objective: NamedTuple = objectives.CrossEntropy()

    def rate(self, epoch: int) -> float:
        """The learning rate in an epoch, counted from 0."""
        return ([self.learning_rate] + [rate for start, rate in self.schedule if epoch >= start])[
            -1
        ]

    def check(self):
        """Raise `EmpirError` for a value out of range."""
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise EmpirError("%s=%r must be positive" % (name, getattr(self, name)))
        if not 0 <= self.seed < 2**31:
            raise EmpirError("seed=%r must be 0..2^31 - 1" % self.seed)
        if not 0 <= self.label_smoothing < 1:
            raise EmpirError("label_smoothing=%r must be in [0, 1)" % self.label_smoothing)
        self.objective.check(self.epochs)

    def describe(self, data: Dataset) -> dict:
        """The settings as plain data, with the digest of the training data."""
        plain = dict(self._asdict())
        plain.update(
            network=self.network.name,
            precisions=[str(p) for p in self.precisions],
            objective=objectives.describe(self.objective),
            data=data.digest(),
        )
        return plain


class _Phase(NamedTuple):
    """What a training step does in the epochs from `start` on.

    Attributes:
      start: epoch, counted from 0.
      step: operation.
      loss, accuracy: of its batch, before it.
    """

    start: int
    step: tf.Operation
    loss: tf.Tensor
    accuracy: tf.Tensor


class _Graph:
    """Placeholders and operations of one training graph.

    Args:
      settings: what to train.
      devices: several devices share each batch, by `tf.distribute.MirroredStrategy`; else empty.
      soft_labels: whether steps are fed a teacher's probabilities too.
    """

    def __init__(self, settings: Settings, devices: Sequence[str] = (), soft_labels: bool = False):
        tf.set_random_seed(settings.seed)
        self.images = tf.placeholder(tf.float32, (None,) + settings.network.input_shape, "images")
        self.labels = tf.placeholder(tf.int64, [None], "labels")
        self.soft_labels = None
        if soft_labels:
            shape = (None, settings.network.num_classes)
            self.soft_labels = tf.placeholder(tf.float32, shape, "soft_labels")
        self.rate = tf.placeholder(tf.float32, [], "rate")
        self.training = keras.backend.learning_phase()
        self._settings = settings
        objective = settings.objective
        plain = [objectives.CrossEntropy()] if objective.start else []
        starts = [0, objective.start] if plain else [0]
        if len(devices) < 2:
            self._build()
            found = [self._train_on(goal, slice(None)) for goal in plain + [objective]]
        else:
            strategy = tf.distribute.MirroredStrategy(devices)
            with strategy.scope(), tf.variable_creator_scope(_averaged):
                self._build()
                found = [self._train_shared(strategy, goal) for goal in plain + [objective]]
        self.phases = [_Phase(start, *phase) for start, phase in zip(starts, found)]
        self.saver = tf.train.Saver(max_to_keep=1)

    def phase(self, epoch: int) -> _Phase:
        """The phase that an epoch, counted from 0, belongs to."""
        return [phase for phase in self.phases if epoch >= phase.start][-1]

    def _build(self):
        settings = self._settings
        # Before the network: stochastic quantizers draw by its number.
        self.global_step = tf.train.get_or_create_global_step()
        self.model = settings.network.build(
            settings.precisions, seed=settings.seed, **settings.options
        )

    def _train_on(self, objective, part: slice, share=None):
        """(step, loss, accuracy) of a part of the batch, that share of it."""
        settings = self._settings
        labels = self.labels[part]
        before = _updates(self.model)
        member = Member(self.model, settings.precisions)
        images = tf.identity(self.images[part])
        logits = member.get_logits(images)
        count = tf.shape(self.labels, out_type=tf.int64)[0]
        step = tf.cast(tf.convert_to_tensor(self.global_step), tf.int64)
        batch = objectives.Batch(
            member=member,
            images=images,
            logits=logits,
            labels=labels,
            targets=objectives.smoothed(
                labels, settings.network.num_classes, settings.label_smoothing
            ),
            soft_labels=None if self.soft_labels is None else self.soft_labels[part],
            index=(step * count + tf.range(count))[part],
            step=step,
            seed=settings.seed,
        )
        loss = objective.loss(batch)
        # Those of this input, not of the model's own placeholder.
        updates = [update for update in _updates(self.model) if update not in before]
        accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), labels), tf.float32))
        if share is not None:
            loss, accuracy = loss * share, accuracy * share
        # One of its own, with fresh slots, as the original (FACTS 2.5).
        optimizer = tf.train.AdamOptimizer(self.rate, epsilon=settings.adam_epsilon)
        with tf.control_dependencies(updates):
            train_step = optimizer.minimize(
                loss, self.global_step, var_list=self.model.trainable_weights
            )
        return train_step, loss, accuracy

    def _train_shared(self, strategy, objective):
        """(step, loss, accuracy) of a batch that a strategy's devices share."""

        def train_on_share():
            replica = tf.distribute.get_replica_context()
            part = slice(replica.replica_id_in_sync_group, None, replica.num_replicas_in_sync)
            share = tf.shape(self.labels[part])[0] / tf.shape(self.labels)[0]
            return self._train_on(objective, part, tf.cast(share, tf.float32))

        shares = strategy.experimental_run_v2(train_on_share)
        reduced = [
            strategy.reduce(tf.distribute.ReduceOp.SUM, share, axis=None) for share in shares[1:]
        ]
        return [tf.group(*strategy.unwrap(shares[0]))] + reduced


def _averaged(make, **arguments):
    """Creator of variables whose updates by several devices are averaged."""
    return make(**dict(arguments, aggregation=tf.VariableAggregation.MEAN))


def _updates(model):
    return [update for layer in model.layers for update in layer.updates]


def epoch_batches(order: np.ndarray, batch_size: int):
    """Index arrays of one epoch's batches, from the examples' order.

    Every example occurs; all batches are full, the last one repeating earlier examples (FACTS 2.5).
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
) -> dict:
    """Train a member and return its weights under their released names.

    Args:
      settings: what to train.
      data: training images and labels.
      directory: where to keep the state while training and, at the end, the released checkpoint and
        training.json, which says how it was made; None keeps nothing.
      resume: continue from the last state in `directory`.
      logdir: folder for TensorBoard summaries of loss and accuracy.
      test: test images, for the accuracy at the end.
      test_each_epoch: measure that accuracy after each epoch.
      progress: show a progress bar with loss and accuracy.
      devices: that share each batch; None = all visible GPUs.
      soft_labels: a teacher's probabilities of the training images, float32 [n, classes], in the
        order of `data`; for `objectives.Distillation` (see `empir.training.distillation`).
      initial: weights to start from, under their released names; None = random ones.

    Raises:
      ResumeError: if `directory` holds the state of another run, or of this one without `resume`.
      CheckpointError: if `initial` is of another network or precision.
      EmpirError: for settings out of range, or if the loss becomes NaN.
    """
    settings.check()
    state = directory and os.path.join(directory, runs.TRAINING)
    description = settings.describe(data)
    description["initial"] = initial and checkpoints.digest(initial)
    with tf.Graph().as_default(), runtime.session() as session:
        devices = runtime.gpus() if devices is None else devices
        graph = _Graph(settings, devices, soft_labels is not None)
        session.run(tf.global_variables_initializer())
        if initial:
            where = "to start from"
            network, precisions = settings.network, settings.precisions
            checkpoints.assign(initial, network, precisions, graph.model, session, where)
        if state:
            runs.claim(state, description, resume, "training")
        writer = tf.summary.FileWriter(logdir, session.graph) if logdir else None
        run = _Run(settings, data, graph, session, state, writer, progress, soft_labels)
        for epoch in range(len(run.history), settings.epochs):
            measured = run.epoch(epoch)
            if test is not None and (test_each_epoch or epoch + 1 == settings.epochs):
                measured["test_accuracy"] = round(evaluate(graph, session, test), 6)
                log.info("epoch %d: test accuracy %.4f", epoch + 1, measured["test_accuracy"])
            run.finish(measured)
        if writer:
            writer.close()
        arrays = checkpoints.released_arrays(
            settings.network, settings.precisions, graph.model, session
        )
        history = run.history
    if directory:
        checkpoints.save(directory, arrays)
        _write_record(directory, description, arrays, history)
        shutil.rmtree(state)
    return arrays


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
    path = os.path.join(directory, "training.json")
    runs.write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def evaluate(graph: _Graph, session, data: Dataset) -> float:
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

    def __init__(self, settings, data, graph, session, state, writer, progress, soft_labels):
        self._settings = settings
        self._data = data
        self._graph = graph
        self._session = session
        self._state = state
        self._writer = writer
        self._progress = progress
        self._soft_labels = soft_labels
        self.history = []
        self._sums = np.zeros(3)  # of the epoch under way: loss, accuracy, steps
        self._saved = time.time()
        self._restore()

    def epoch(self, epoch: int) -> dict:
        """Run an epoch, or the rest of it; returns its mean loss and training accuracy."""
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
                if time.time() - self._saved > SAVE_SECONDS:
                    self._save()
        loss, accuracy = self._sums[:2] / self._sums[2]
        log.info("%s: loss %.4f, training accuracy %.4f", title, loss, accuracy)
        return {"loss": round(loss, 6), "training_accuracy": round(accuracy, 6)}

    def finish(self, measured: dict):
        """Keep what was measured of an epoch, and the state after it."""
        self.history.append(measured)
        self._sums[:] = 0
        self._save()

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
            values = [("loss", loss), ("accuracy", accuracy), ("learning_rate", rate)]
            items = [tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values]
            self._writer.add_summary(tf.Summary(value=items), step)
        return loss, accuracy

    def _history_file(self, step):
        return os.path.join(self._state, "history-%d.json" % step)

    def _save(self):
        """Keep weights, optimizer and history; the checkpoint comes last and makes them count."""
        self._saved = time.time()
        if not self._state:
            return
        step = int(self._session.run(self._graph.global_step))
        content = {"epochs": self.history, "sums": self._sums.tolist()}
        runs.write_atomically(self._history_file(step), json.dumps(content))
        self._graph.saver.save(self._session, os.path.join(self._state, "state"), step)
        for name in os.listdir(self._state):
            if name.startswith("history-") and name != "history-%d.json" % step:
                os.remove(os.path.join(self._state, name))

    def _restore(self):
        latest = self._state and tf.train.latest_checkpoint(self._state)
        if not latest:
            return
        self._graph.saver.restore(self._session, latest)
        step = int(latest.rsplit("-", 1)[-1])
        content = runs.read_json(self._history_file(step))
        self.history, self._sums = content["epochs"], np.array(content["sums"])
        log.info("resuming after epoch %d, step %d", len(self.history), step)
