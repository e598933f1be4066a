"""Attack an ensemble or a single network of a dataset; train the network where there is none yet.

`empir attack`, `empir train` and the example scripts run this module.
"""

import contextlib
import logging
import os
import re
import sys

from absl import flags

from empir import attacks, runtime
from empir.commands import attack_flags, cluster_flags, defenses
from empir.commands import flags as empir_flags
from empir.commands import shared_flags
from empir.data import subsets
from empir.errors import EmpirError
from empir.experiments import ADAPTIVE_SAMPLES, Experiment, default_parameters, experiment
from empir.models import checkpoints
from empir.records import runs
from empir.report import networks
from empir.training import training_folder

log = logging.getLogger("empir")
FLAGS = flags.FLAGS


def setup(dataset: str):
    """Define the flags of the attacks on a dataset; returns the main function."""
    chosen = experiment(dataset)
    empir_flags.define(chosen)
    return lambda _: run(chosen)


def run(experiment: Experiment):
    """Do what the parsed flags ask for, and print the result.

    Raises:
      EmpirError: for bad input; `process.exit_with` prints it as one line.
    """
    _prepare_process()
    request = attack_flags.read(experiment)
    whole = {
        "a network is trained as a whole": request.training or request.train_only,
        cluster_flags.DRAWS: request.draws,
    }
    shard = cluster_flags.shard(
        {
            **whole,
            "figures are drawn of whole runs": request.draw,
            "a suite is computed as a whole": request.is_adaptive,
        }
    )
    cluster_flags.check(whole)
    # Training takes whole operations; what draws at random would depend on which share is first.
    images = 1 if any(whole.values()) else request.batch_size(FLAGS.nb_samples)
    runtime.configure(cluster_flags.threads(), images)
    for flag, reason in attack_flags.without_effect(request):
        log.warning("--%s has no effect: %s", flag, reason)
    if request.training:
        defenses.objective(request.experiment)  # refuses flags that exclude each other
    if request.out is not None or (request.draw and not request.train_only):
        runs.check_writable("." if request.out is None else request.out)
    path, precisions = request.members[0].path, request.precisions
    if path and request.train_only and not request.training:
        checkpoints.check_record(path, request.network, precisions[0])
        training_folder.tidy(path)
    data = None if request.train_only else _test_data(request)
    arrays = defenses.train(request) if request.training else None
    if request.train_only:
        log.info("%s holds a trained network", path)
        return
    source = _source(request, arrays)
    with cluster_flags.cluster(whole) as cluster:
        load = FLAGS.scheduler and shared_flags.loader(request.experiment, "test")
        place = cluster(source, data, load, images)
        if request.is_adaptive:
            _attack_adaptively(request, source, data, place)
            return
        _attack(request, source, data, shard, place)
    if request.draw:
        _show_figure(request)


def _prepare_process():
    """Apply the flags that must be known before TensorFlow is loaded."""
    if FLAGS.gpu is not None:
        if not re.match(r"(-1|[0-9]{1,3}(,[0-9]{1,3})*)?\Z", FLAGS.gpu):
            raise EmpirError(f"--gpu={FLAGS.gpu}: write a GPU's number, e.g. 0, or nothing")
        os.environ["CUDA_VISIBLE_DEVICES"] = FLAGS.gpu
    if FLAGS.debug:
        log.setLevel(logging.DEBUG)


def _test_data(request):
    """The images to attack."""
    data = shared_flags.load_data(request.experiment, "test")
    if shared_flags.given("nb_samples"):
        return shared_flags.take(data, FLAGS.nb_samples, subsets.FIRST)
    most = FLAGS.nb_samples
    if request.is_adaptive:
        most = ADAPTIVE_SAMPLES
        log.info("attacking %d images; --nb_samples changes that", most)
    return shared_flags.take(data, min(most, len(data.labels)), subsets.FIRST)


def _source(request, arrays):
    """The networks of a request, or the one of weights `arrays`."""
    from empir.evaluation import subjects

    setting, protocol = request.setting, request.protocol
    return subjects.Source(
        architecture=setting.architecture,
        members=request.members,
        outside=subjects.independent(setting) if request.is_adaptive else (),
        combine=protocol.combine,
        attack_target=protocol.attack_target or "decision",
        temperature=request.temperature,
        options=request.options,
        arrays=arrays,
        engine=request.engine,
        seed=setting.seed,
        prepare=shared_flags.prepared(request.experiment),
    )


def _attack(request, source, data, shard, place):
    """Run one attack, or a shard of it."""
    from empir.evaluation.single import evaluate

    if request.draw:
        from empir.report import pairs  # noqa: F401 - if it cannot be imported, nothing is attacked
    with source.open(data, attacks.row(request.attack).operations) as networks:
        job = _job(request, networks.ensemble, data)
        was_finished = request.out and os.path.exists(os.path.join(request.out, "result.json"))
        how = request.out, request.resume, request.progress
        result = evaluate(job, networks.session, *how, shard, place)
        if result is None:
            return
        if request.draw and not (was_finished and os.path.exists(_figure_path(request))):
            _draw(request, job, result)
        report(result.record)


def _job(request, ensemble, data):
    from empir.evaluation.single import Job

    setting, batch_size = request.setting, request.batch_size(len(data.labels))
    return Job(
        ensemble=ensemble,
        attack=request.attack,
        parameters=default_parameters(setting, request.attack, batch_size, data.clip_range),
        data=data,
        seed=setting.seed,
        batch_size=batch_size,
        targeted=request.targeted,
        true_labels=request.true_labels,
        save_adversarial=request.save_adversarial,
        architecture=setting.architecture,
        protocol=request.protocol.name,
        options=dict(request.recorded_options, **shared_flags.recorded_runtime()),
        show=request.draw,
        shares=runtime.share_count(),
    )


def _attack_adaptively(request, source, data, place):
    """Run the suite of `empir robustness` on the members of the flags: --protocol=adaptive."""
    from empir.evaluation import suite
    from empir.evaluation.threat import Threat
    from empir.report import robustness

    threat, size = Threat("linf", request.setting.eps), request.batch_size(len(data.labels))
    options = dict(request.recorded_options, **shared_flags.recorded_runtime())
    setting = source.setting(data, threat, size, options)
    with contextlib.ExitStack() as stack:
        out = request.out or stack.enter_context(runs.temporary_folder())
        result = suite.run(setting, out, progress=request.progress, place=place)
        if request.out:
            robustness.write(result, data, out)
            log.info("%s holds the report", os.path.join(out, "report.html"))
    record = result.record
    log.info("%s", robustness.terminal(record))
    _print_result(record["clean_accuracy"], record["worst_case_accuracy"], result.l2.mean())


def _figure_path(request):
    name = "adversarial" if request.out else f"{request.experiment.dataset}-{request.attack}"
    return os.path.join(request.out or "", f"{name}.png")


def _draw(request, job, result):
    """Draw the first images of an attack, unless it was finished without keeping them."""
    from empir.records import chunks
    from empir.report import pairs

    arrays = result.arrays
    if not arrays:
        with chunks.opened(os.path.join(request.out, "examples.npz")) as kept:
            arrays = dict(kept)
    if "shown" in arrays:
        title = f"{request.attack.upper()} on {request.experiment.title}"
        pairs.save(pairs.of(job, arrays, title), _figure_path(request))


def _show_figure(request):
    """Say where the drawn images are, drawn now or when the run was finished, and show them."""
    from empir.report import pairs

    path = _figure_path(request)
    if not os.path.exists(path):
        log.warning("--viz_enabled has no effect: %s was finished without it", request.out)
        return
    log.info("%s shows the first images beside their adversarial images", path)
    sys.stdout.flush()  # the result, before a window is waited for
    pairs.show(path)


def report(record: dict):
    """Print the result's three lines, and log what each decision rule and each member says.

    Of one network there is nothing to combine, so that a single line says it all.
    """
    members = list(zip(networks.titles(record["members"]), record["member_accuracy"]))
    rules = list(record["accuracy"].items()) if len(members) > 1 else []
    width = max(12, *(len(name) for name, _ in rules + members))
    for name, accuracy in rules + members:
        text = "%s clean %.4f, adversarial %.4f"
        log.info(text, name.ljust(width), accuracy["clean"], accuracy["adversarial"])
        if "clean_top5" in accuracy:
            top5 = (accuracy["clean_top5"], accuracy["adversarial_top5"])
            log.info(text, "  top-5".ljust(width), *top5)
    if "targeted_success" in record:
        print(f"Avg. rate of successful targeted adv. examples: {record['targeted_success']:.4f}")
    _print_result(record["clean_accuracy"], record["adversarial_accuracy"], record["mean_l2"])


def _print_result(clean, adversarial, l2):
    print(f"Test accuracy on legitimate test examples: {clean:.4f}")
    print(f"Test accuracy on adversarial examples: {adversarial:.4f}")
    print(f"Avg. L_2 norm of perturbations: {l2:.4f}")
