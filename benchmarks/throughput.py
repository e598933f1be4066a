"""Measure the rate of an attack on an ensemble, beside the rate of matrix products.

    python -m benchmarks.throughput --dataset=imagenet --attack=fgsm --out=FILE.json

The members have random weights and the images are noise; both take the same time as any other. Only
the call of the attack's graph is timed, with the labels given. In each step each member takes one
forward pass and one gradient with respect to the image. Products of 2048x2048 matrices, measured in
the same turns, show what the machine can compute.
"""

import time

import numpy as np
from absl import flags

from benchmarks.pages.speed import attack_steps
from empir import attacks, runtime
from empir.commands import commandline, shared_flags
from empir.commands.shared_flags import define_count
from empir.errors import EmpirError
from empir.experiments import (
    EXPERIMENTS,
    PROTOCOLS,
    TABLE_ATTACKS,
    Experiment,
    default_parameters,
    experiment,
)
from empir.nn import architecture
from empir.nn.cost import multiplications
from empir.nn.precision import per_layer
from empir.records import provenance, runs

FLAGS = flags.FLAGS
GEMM_SIZE = 2048


def setup():
    """Define the flags; returns the main function."""
    flags.DEFINE_string("dataset", "mnist", "whose ensemble: " + ", ".join(EXPERIMENTS))
    flags.DEFINE_string("attack", "pgd", "fgsm, bim, pgd or cw")
    flags.DEFINE_string("protocol", "whitebox", "whitebox or paper")
    define_count("batch_size", 100, "images per graph call")
    define_count("repeats", 5, "timed calls; the median counts")
    shared_flags.define_threads()
    flags.DEFINE_string("out", None, "file for the measurement, JSON; default: none")
    return run


def run(_):
    """Measure, print, and write the file.

    Raises:
      EmpirError: for an unknown name.
    """
    chosen = experiment(FLAGS.dataset)
    attack = attacks.canonical_name(FLAGS.attack)
    if attack not in TABLE_ATTACKS:
        raise EmpirError(f"--attack={attack}: choose from {', '.join(TABLE_ATTACKS)}")
    if FLAGS.out is not None:
        runs.check_file(FLAGS.out)
    if FLAGS.protocol not in PROTOCOLS:
        raise EmpirError(f"--protocol={FLAGS.protocol}: choose from {', '.join(sorted(PROTOCOLS))}")
    runtime.configure(FLAGS.num_threads, FLAGS.batch_size)
    record = measure(chosen, attack, FLAGS.protocol, FLAGS.batch_size, FLAGS.repeats)
    if FLAGS.out:
        runs.write_json(FLAGS.out, record)
    print(
        f"{record['architecture']} ensemble, {attack}, {FLAGS.protocol}: "
        f"{record['images_per_second']:.1f} images/s, {record['gflops']:.0f} GFLOP/s, "
        f"{record['share_of_gemm']:.2f} of matrix products' {record['gemm_gflops']:.0f}"
    )


def made() -> dict:
    """What a record says of the machine, the software and the command."""
    return {"processor": provenance.processor(), **provenance.of_run()}


def measure(chosen: Experiment, attack: str, protocol: str, batch_size: int, repeats: int) -> dict:
    """Time an attack on an experiment's ensemble; returns the record.

    Args:
      chosen: the experiment.
      attack: of `TABLE_ATTACKS`.
      protocol: of `PROTOCOLS`.
      batch_size: images per call.
      repeats: timed calls; matrix products are timed between them.
    """
    from empir.models.ensemble import Ensemble
    from empir.runtime import tf

    with tf.Graph().as_default(), runtime.session(operations=1) as session:
        asked = PROTOCOLS[protocol]
        ensemble = Ensemble(members(chosen, session), asked.combine, asked.attack_target)
        fetch, feed = attack_graph(chosen, attack, ensemble, batch_size, session)
        attack_seconds, gemm_seconds = median_seconds_in_turns(
            [lambda: session.run(fetch, feed), _gemm_call(session)], repeats
        )
        followed = ensemble.members
        if ensemble.target(attack).name == "full_precision":
            followed = [ensemble.members[ensemble.reference]]
        steps = attack_steps(default_parameters(chosen, attack, batch_size))
        work = 2 * steps * sum(2 * multiplications(member.model) for member in followed)
    gflops = work * batch_size / attack_seconds / 1e9
    gemm = runtime.share_count() * 2 * GEMM_SIZE**3 / gemm_seconds / 1e9
    return dict(
        dataset=chosen.dataset,
        architecture=chosen.architecture,
        attack=attack,
        protocol=protocol,
        batch_size=batch_size,
        repeats=repeats,
        images_per_second=round(batch_size / attack_seconds, 3),
        gflops=round(gflops, 1),
        gemm_gflops=round(gemm, 1),
        share_of_gemm=round(gflops / gemm, 3),
        peak_memory_mb=provenance.peak_memory_mb(),
        **made(),
    )


def members(chosen: Experiment, session, engine=None) -> list:
    """Members of an experiment, with random weights, in the session's graph.

    Args:
      chosen: the experiment.
      session: holds the weights.
      engine: see `member.load_members`.
    """
    from empir.models.member import ready_member

    network = architecture(chosen.architecture)
    made = []
    for seed, (_, precision) in enumerate(chosen.members):
        model = network.build(precision, trainable=False, seed=seed)
        session.run([variable.initializer for variable in model.weights])
        precisions = per_layer(precision, len(network.quantized_layers))
        width = {"nb_filters": network.nb_filters}
        made.append(ready_member(model, precisions, session, engine, **width))
    return made


def attack_graph(chosen: Experiment, attack: str, ensemble, batch_size: int, session):
    """The graph of an attack on noise.

    Returns:
      An operation to run, which computes the adversarial images but does not fetch them, and the
      feed that it takes.
    """
    from empir.runtime import tf

    network = architecture(chosen.architecture)
    parameters = default_parameters(chosen, attack, batch_size)
    if attack == "cw":
        parameters["abort_early"] = False  # as many steps for any images
    images = tf.placeholder(tf.float32, (None,) + network.input_shape)
    labels = tf.placeholder(tf.float32, [None, network.num_classes])
    adversarial = attacks.create(
        attack, ensemble.target(attack), session, runtime.share_count()
    ).generate(images, y=labels, **parameters)
    random = np.random.RandomState(0)
    feed = {
        images: random.uniform(*chosen.clip_range, size=(batch_size,) + network.input_shape),
        labels: np.eye(network.num_classes)[random.randint(0, network.num_classes, batch_size)],
    }
    return adversarial.op, feed


def _gemm_call(session):
    """A function that multiplies two float32 matrices of GEMM_SIZE squared, once for each share."""
    from empir.runtime import tf

    products = []
    for seed in range(runtime.share_count()):
        matrix = tf.Variable(tf.random_normal([GEMM_SIZE, GEMM_SIZE], seed=seed))
        session.run(matrix.initializer)
        products.append(tf.matmul(matrix, matrix))
    return lambda: session.run([product.op for product in products])


def median_seconds_in_turns(calls, repeats: int) -> list:
    """Median seconds of each of several calls, which take turns; the first turn is not timed."""
    seconds = [[] for _ in calls]
    for _ in range(repeats + 1):
        for measured, call in zip(seconds, calls):
            began = time.perf_counter()
            call()
            measured.append(time.perf_counter() - began)
    return [float(np.median(measured[1:])) for measured in seconds]


if __name__ == "__main__":
    commandline.run_main(setup)
