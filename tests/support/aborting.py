"""Networks and attacks on which this TensorFlow ends the process, each in a process of its own.

    python -m tests.support.aborting

prints a line per case, "NAME: ok" or "NAME: status N": a fork of one process that has imported
TensorFlow, so that a case that ends its process is told from the others and costs no import.
"""

import functools
import os

import numpy as np

from empir import attacks, runtime
from empir.models.ensemble import Ensemble
from empir.models.keras_member import KerasMember
from empir.models.member import Member, ready_member
from empir.nn import architecture
from empir.nn.layers import QuantDense
from empir.nn.precision import FULL, Precision, per_layer
from empir.runtime import keras, tf
from tests.support.forks import forked

LAYERS = keras.layers
PARAMETERS = {
    "pgd": {"nb_iter": 2},
    "fgsm": {},
    "cw": {"max_iterations": 2, "batch_size": 2, "binary_search_steps": 1},
}


def dense(number):
    """A user's Keras classifier whose last layer has a bias."""
    return KerasMember(keras.Sequential([LAYERS.Flatten(input_shape=(6, 6, 3)), LAYERS.Dense(10)]))


def quantized(number):
    """A network of this package's layers with a bias."""
    logits = QuantDense(10, use_bias=True, name="logits")
    return Member(keras.Sequential([LAYERS.Flatten(input_shape=(6, 6, 3)), logits]), [FULL])


def summing(number):
    """A user's network that is itself a sum of two layers with biases."""
    image = keras.Input((6, 6, 3))
    flat = LAYERS.Flatten()(image)
    logits = LAYERS.Lambda(tf.add_n)([LAYERS.Dense(10)(flat), LAYERS.Dense(10)(flat)])
    return KerasMember(keras.Model(image, logits))


def released(name, precision, engine, **options):
    """One of this project's networks, narrow, with random weights."""

    def build(number):
        network, session = architecture(name), tf.get_default_session()
        precisions = per_layer(precision, len(network.quantized_layers))
        model = network.build(precisions, nb_filters=4, trainable=False, seed=number, **options)
        session.run([variable.initializer for variable in model.weights])
        return ready_member(model, precisions, session, engine)

    return build


def run(build, count, opened, combine, attack):
    """Attack members that `build` makes, or decide if there is no attack."""
    with tf.Graph().as_default(), opened() as session:
        keras.backend.set_session(session)
        ensemble = Ensemble([build(number) for number in range(count)], combine)
        shape = (2,) + tuple(ensemble.members[0].model.input_shape[1:])
        images = np.random.RandomState(0).uniform(size=shape).astype(np.float32)
        image, labels = tf.placeholder(tf.float32, (None,) + shape[1:]), None
        logits = ensemble.target("pgd").get_logits(image)
        fetches = [logits, ensemble.decision(image)]
        if attack:
            labels = tf.one_hot([1, 2], logits.shape[-1].value)
            parameters = dict(PARAMETERS[attack], clip_min=0.0, clip_max=1.0, y=labels)
            attack = attacks.create(attack, ensemble.target(attack), session)
            fetches = attack.generate(image, **parameters)
        session.run(tf.variables_initializer(uninitialized(session)))
        session.run(fetches, {image: images})


def uninitialized(session):
    """The variables that no builder has given values."""
    known = tf.global_variables()
    ready = session.run([tf.is_variable_initialized(variable) for variable in known])
    return [variable for variable, done in zip(known, ready) if not done]


#: Name -> what makes the members, how many, the session, the decision rule and the attack.
CASES = {
    "two dense layers, decided": (dense, 2, tf.Session, "vote", None),
    "two dense layers, attacked": (dense, 2, tf.Session, "mean_logits", "pgd"),
    "two dense layers, our session": (dense, 2, runtime.session, "vote", "cw"),
    "two of our layers": (quantized, 2, tf.Session, "vote", "fgsm"),
    "AlexNet by the engine": (
        released("AlexNet", FULL, True),
        2,
        tf.Session,
        "mean_logits",
        None,
    ),
    "AlexNet by layers": (
        released("AlexNet", Precision(2, 2), False),
        2,
        runtime.session,
        "vote",
        "fgsm",
    ),
    "a sum of dense layers, decided": (summing, 1, runtime.session, "vote", None),
    "a sum of dense layers, attacked": (summing, 2, runtime.session, "vote", "pgd"),
    "rounding at random, by the engine": (
        released("CIFARconv", Precision(2, 2), True, stochastic_rounding=True),
        1,
        tf.Session,
        "vote",
        "pgd",
    ),
    "weights at random, by the engine": (
        released("MNISTconvRand", FULL, True),
        2,
        runtime.session,
        "vote",
        "cw",
    ),
}


def run_silently(*case):
    """Run a case without what it writes to standard error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    run(*case)


def main():
    """Run all cases, each in a fork, and print how it ended."""
    for name, case in CASES.items():
        status = forked(functools.partial(run_silently, *case))
        print("%s: %s" % (name, "status %d" % status if status else "ok"))


if __name__ == "__main__":
    main()
