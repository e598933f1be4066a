"""How fast an attack on an ensemble is, beside what this machine can multiply.

    python -m benchmarks.throughput --dataset=imagenet --attack=fgsm --out=FILE.json

Members have random weights and images are noise, which cost the same as any other. Timed is the
attack's graph call alone, with the labels given: per step and member one forward pass and one
gradient with respect to the image. Matrix products of the same run say what the machine can do.
"""

import time

import numpy as np
from absl import flags

from empir import attacks, runtime
from empir.commands import commandline
from empir.commands import flags as empir_flags
from empir.commands.flag_types import define_count
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
from empir.records import runs

FLAGS = flags.FLAGS
GEMM_SIZE = 2048


def setup():
    """Define the flags; returns the main function."""
    flags.DEFINE_string("dataset", "mnist", "whose ensemble: " + ", ".join(EXPERIMENTS))
    flags.DEFINE_string("attack", "pgd", "fgsm, bim, pgd or cw")
    flags.DEFINE_string("protocol", "whitebox", "whitebox or paper")
    define_count("batch_size", 100, "images per graph call")
    define_count("repeats", 5, "timed calls; the median counts")
    empir_flags.define_threads()
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
        raise EmpirError("--attack=%s: choose from %s" % (attack, ", ".join(TABLE_ATTACKS)))
    if FLAGS.out is not None:
        runs.check_file(FLAGS.out)
    if FLAGS.protocol not in PROTOCOLS:
        raise EmpirError(
            "--protocol=%s: choose from %s" % (FLAGS.protocol, ", ".join(sorted(PROTOCOLS)))
        )
    runtime.configure(FLAGS.num_threads, FLAGS.batch_size)
    record = measure(chosen, attack, FLAGS.protocol, FLAGS.batch_size, FLAGS.repeats)
    if FLAGS.out:
        runs.write_json(FLAGS.out, record)
    print(
        "%(architecture)s ensemble, %(attack)s, %(protocol)s: %(images_per_second).1f images/s, "
        "%(gflops).0f GFLOP/s, %(share_of_gemm).2f of matrix products' %(gemm_gflops).0f" % record
    )


def measure(chosen: Experiment, attack: str, protocol: str, batch_size: int, repeats: int) -> dict:
    """Time an attack on an experiment's ensemble; the record of --out.

    Args:
      chosen: the experiment.
      attack: canonical name, not "jsma".
      protocol: name.
      batch_size: images per call.
      repeats: timed calls; matrix products are timed between them.
    """
    from empir.models.ensemble import Ensemble
    from empir.runtime import tf

    with tf.Graph().as_default(), runtime.session(operations=1) as session:
        ensemble = Ensemble(members(chosen, session), *PROTOCOLS[protocol])
        fetch, feed = attack_graph(chosen, attack, ensemble, batch_size, session)
        attack_seconds, gemm_seconds = _interleaved(
            [lambda: session.run(fetch, feed), _gemm_call(session)], repeats
        )
        followed = ensemble.members
        if ensemble.target(attack).name == "full_precision":
            followed = [ensemble.members[ensemble.reference]]
        steps = {"fgsm": 1, "cw": chosen.cw_iterations}.get(attack, chosen.nb_iter)
        work = 2 * steps * sum(2 * multiplications(member.model) for member in followed)
    gflops = work * batch_size / attack_seconds / 1e9
    gemm = runtime.share_count() * 2 * GEMM_SIZE**3 / gemm_seconds / 1e9
    versions, commit = runtime.provenance()
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
        peak_memory_mb=runtime.peak_memory_mb(),
        processor=runtime.processor(),
        command=runtime.command(),
        versions=versions,
        git_commit=commit,
    )


def members(chosen: Experiment, session, engine=None) -> list:
    """The experiment's members with random weights; for `engine` see `loading.load_member`."""
    from empir.models.loading import ready_member

    network = architecture(chosen.architecture)
    made = []
    for seed, (_, precision) in enumerate(chosen.members):
        model = network.build(precision, trainable=False, seed=seed)
        session.run([variable.initializer for variable in model.weights])
        precisions = per_layer(precision, len(network.quantized_layers))
        made.append(ready_member(model, precisions, session, engine))
    return made


def attack_graph(chosen: Experiment, attack: str, ensemble, batch_size: int, session):
    """An attack on noise: what to run, which leaves the result in the graph, and what to feed."""
    from empir.runtime import tf

    network = architecture(chosen.architecture)
    parameters = default_parameters(chosen, attack, batch_size)
    if attack == "cw":
        parameters["abort_early"] = False  # as many steps whatever the images
    images = tf.placeholder(tf.float32, (None,) + network.input_shape)
    labels = tf.placeholder(tf.float32, [None, network.num_classes])
    adversarial = attacks.create(attack, ensemble.target(attack), session).generate(
        images, y=labels, **parameters
    )
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


def _interleaved(calls, repeats):
    """Median seconds of each call, the calls taking turns after one untimed round."""
    seconds = [[] for _ in calls]
    for _ in range(repeats + 1):
        for kept, call in zip(seconds, calls):
            began = time.perf_counter()
            call()
            kept.append(time.perf_counter() - began)
    return [float(np.median(kept[1:])) for kept in seconds]


if __name__ == "__main__":
    commandline.run_main(setup)
