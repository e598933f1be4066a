"""The graph of a training: a network, and a step of Adam per phase, on one device or several."""

import json
import numbers
from dataclasses import MISSING, dataclass, fields
from typing import Optional, Sequence, Tuple

from empir import runtime
from empir.data import Dataset
from empir.errors import EmpirError
from empir.models import checkpoints
from empir.models.member import Member
from empir.nn import Architecture, check_filters
from empir.runtime import keras, tf
from empir.training import objectives
from empir.training.workers import Alone

#: Epochs that no training has.
MOST_EPOCHS = 10**6


@dataclass(frozen=True)
class Settings:
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
        the original's is 0.1 on CIFAR-10 (docs/original.md, Training).
      schedule: (epoch, rate) pairs: from that epoch on, counted from 0, the rate is another.
      adam_epsilon: Adam's epsilon.
      objective: what is minimised, see `objectives.Objective`.
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
    objective: objectives.Objective = objectives.CrossEntropy()

    def rate(self, epoch: int) -> float:
        """The learning rate in an epoch, counted from 0."""
        rates = [self.learning_rate] + [rate for start, rate in self.schedule if epoch >= start]
        return rates[-1]

    def check(self):
        """Raise `EmpirError` for a value out of range."""
        for name, most in (("epochs", MOST_EPOCHS), ("batch_size", 2**31 - 1)):
            objectives.check_count(name, getattr(self, name), most)
        objectives.check_positive("learning_rate", self.learning_rate)
        objectives.check_positive("adam_epsilon", self.adam_epsilon)
        check_filters(self.options.get("nb_filters", self.network.nb_filters))
        if not isinstance(self.seed, numbers.Integral) or not 0 <= self.seed < 2**31:
            raise EmpirError(f"seed={self.seed!r} must be an integer, 0..2^31 - 1")
        if not 0 <= self.label_smoothing < 1:
            raise EmpirError(f"label_smoothing={self.label_smoothing!r} must be in [0, 1)")
        self.objective.check(self.epochs)

    def describe(self, data: Dataset) -> dict:
        """The settings as plain data, with the digest of the training data."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        options = dict(self.options)
        if options.get("nb_filters") == self.network.nb_filters:
            del options["nb_filters"]
        plain.update(
            options=options,
            network=self.network.name,
            precisions=[str(p) for p in self.precisions],
            objective=self.objective.describe(),
            data=data.digest(),
        )
        return plain

    @classmethod
    def defaults(cls) -> dict:
        """What `describe` gives for settings that are left out, and for random first weights."""
        plain = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
        plain.update(objective=plain["objective"].describe(), initial=None)
        return json.loads(json.dumps(plain))


@dataclass(frozen=True, eq=False)
class Phase:
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


class Graph:
    """Placeholders and operations of one training graph.

    Args:
      settings: what to train.
      devices: several devices share each batch, by `tf.distribute.MirroredStrategy`; else empty.
      soft_labels: whether steps are fed a teacher's probabilities too.
      workers: processes that share each batch; this one is fed `workers.part` of it.

    Attributes:
      accuracy: of the images and labels that are fed, by this process alone.
      meeting: what several processes run to wait for each other; None of one process.
    """

    def __init__(
        self,
        settings: Settings,
        devices: Sequence[str] = (),
        soft_labels: bool = False,
        workers: Alone = Alone(),
    ):
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
        self._workers, self.meeting = workers, None
        strategy = workers.strategy_of(devices)
        if strategy is None:
            self._build()
            found = [self._train_on(each, slice(None)) for each in plain + [objective]]
        else:
            with strategy.scope(), tf.variable_creator_scope(_averaged):
                self._build()
                found = [self._train_shared(strategy, each) for each in plain + [objective]]
                if workers.count > 1:
                    ones = strategy.experimental_run_v2(lambda: tf.constant(1.0))
                    self.meeting = strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None)
        self.phases = [Phase(start, *phase) for start, phase in zip(starts, found)]
        alone = workers.count == 1
        self.accuracy = self.phases[0].accuracy if alone else self._own_accuracy()
        self.saver = tf.train.Saver(max_to_keep=None)

    def initialize(self, session, weights: Optional[dict] = None):
        """Give the variables their first values.

        Args:
          session: holds them.
          weights: weights to start from, under their released names; None = random ones.

        Raises:
          CheckpointError: if the weights are of another network, precision or width.
        """
        session.run(tf.global_variables_initializer())
        if weights:
            network, precisions = self._settings.network, self._settings.precisions
            given = checkpoints.values(weights, network, precisions, self.model, "to start from")
            runtime.assign(given, session)

    def released_arrays(self, session) -> dict:
        """The weights that a session holds, under their released names."""
        settings = self._settings
        return checkpoints.released_arrays(
            settings.network, settings.precisions, self.model, session
        )

    def phase(self, epoch: int) -> Phase:
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
        count = self._workers.total(tf.shape(self.labels, out_type=tf.int64)[0])
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
            index=self._workers.part(step * count + tf.range(count))[part],
            step=step,
            seed=settings.seed,
        )
        loss = objective.loss(batch)
        # Those of this input, not of the model's own placeholder.
        updates = [update for update in _updates(self.model) if update not in before]
        accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), labels), tf.float32))
        if share is not None:
            loss, accuracy = loss * share, accuracy * share
        # One of its own, with fresh slots, as the original (docs/original.md, Training).
        optimizer = tf.train.AdamOptimizer(self.rate, epsilon=settings.adam_epsilon)
        with tf.control_dependencies(updates):
            train_step = optimizer.minimize(
                loss, self.global_step, var_list=self.model.trainable_weights
            )
        return train_step, loss, accuracy

    def _own_accuracy(self):
        """Accuracy on what is fed, without the other processes."""
        logits = Member(self.model, self._settings.precisions).get_logits(self.images)
        right = tf.equal(tf.argmax(logits, 1), self.labels)
        return tf.reduce_mean(tf.cast(right, tf.float32))

    def _train_shared(self, strategy, objective):
        """(step, loss, accuracy) of a batch that a strategy's devices share."""

        def train_on_share():
            replica = tf.distribute.get_replica_context()
            numbers = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
            part = self._workers.replica(*numbers)
            whole = self._workers.total(tf.shape(self.labels)[0])
            share = tf.shape(self.labels[part])[0] / whole
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
