"""What an example script does: load or train the networks, attack, report."""

import contextlib
import logging
import os
import re
import sys

from absl import flags

from empir import attacks, runtime
from empir.commands import data_flags, defenses
from empir.commands import flags as empir_flags
from empir.errors import EmpirError
from empir.experiments import ADAPTIVE, ADAPTIVE_SAMPLES, Experiment, attack_parameters, experiment
from empir.models import identity
from empir.nn import architecture, family
from empir.nn.precision import per_layer
from empir.records import runs
from empir.report import networks
from empir.training import training_folder

log = logging.getLogger("empir")
FLAGS = flags.FLAGS


def attack_script(dataset: str):
    """Define the flags of an example script; returns its main function."""
    chosen = experiment(dataset)
    empir_flags.define(chosen)
    return lambda _: run(chosen)


def run(experiment: Experiment):
    """What an example script does once its flags are parsed.

    Raises:
      EmpirError: for bad input; `process.exit_with` prints it as one line.
    """
    configure()
    specs = empir_flags.members()
    experiment = empir_flags.with_rand(experiment, specs)
    attack = attacks.canonical_name(FLAGS.attack)
    protocol = empir_flags.protocol()
    single = not data_flags.given("members") and len(specs) == 1
    training = single and _is_to_be_trained(specs[0].path)
    # Training takes whole operations; what draws at random would depend on which share is first.
    whole = training or FLAGS.stocRound or FLAGS.rand
    runtime.configure(FLAGS.num_threads, images=1 if whole else _chunk(experiment))
    for flag, reason in empir_flags.without_effect(attack, training, experiment):
        log.warning("--%s has no effect: %s", flag, reason)
    if FLAGS.train_only and (len(specs) > 1 or specs[0].path is None):
        raise EmpirError("--train_only needs --model_path, the folder to train a network in")
    if protocol[0] == ADAPTIVE and not FLAGS.eps > 0:
        raise EmpirError("--eps=%g: --protocol=adaptive needs a radius above 0" % FLAGS.eps)
    if training:
        defenses.objective(experiment)  # refuses what is wrong before anything is read
    if FLAGS.out is not None or (FLAGS.viz_enabled and not FLAGS.train_only):
        runs.check_writable("." if FLAGS.out is None else FLAGS.out)
    network = architecture(experiment.architecture)
    precisions = [per_layer(spec.precision, len(network.quantized_layers)) for spec in specs]
    if FLAGS.train_only and not training:
        identity.check_record(specs[0].path, network, precisions[0])
        training_folder.tidy(specs[0].path)
    options = _options(experiment)
    seed = experiment.seed if FLAGS.seed is None else FLAGS.seed
    data = None if FLAGS.train_only else _test_data(experiment)
    arrays = None
    if training:
        arrays = _train(experiment, network, precisions[0], options, specs[0].path, seed)
    if FLAGS.train_only:
        log.info("%s holds a trained network", specs[0].path)
        return
    if protocol[0] == ADAPTIVE:
        _attack_adaptively(experiment, specs, protocol[1], data, seed, options, arrays)
        return
    _attack(experiment, specs, precisions, attack, protocol, data, seed, options, arrays)
    if FLAGS.viz_enabled:
        _show_figure(_figure_path(experiment, attack))


def _attack(experiment, specs, precisions, attack, protocol, data, seed, options, arrays):
    """Run one attack on the members of the flags, or on the one of trained weights `arrays`."""
    from empir.evaluation.runner import evaluate
    from empir.models.loading import load_member, member_from_arrays
    from empir.runtime import tf

    network = architecture(experiment.architecture)
    operations = attacks.row(attack).operations
    with tf.Graph().as_default(), runtime.session(operations=operations) as session:
        tf.set_random_seed(seed)
        if arrays is not None:
            path = specs[0].path
            loaded = [
                member_from_arrays(
                    network, precisions[0], arrays, session, path, FLAGS.engine, **options
                )
            ]
        else:
            loaded = [
                load_member(network, p, spec.path, session, "model%d" % i, FLAGS.engine, **options)
                for i, (spec, p) in enumerate(zip(specs, precisions), 1)
            ]
        job = _job(experiment, loaded, attack, protocol, data, seed, options)
        report(evaluate(job, session, FLAGS.out, FLAGS.resume, FLAGS.progress))


def _job(experiment, members, attack, protocol, data, seed, options):
    from empir.evaluation.runner import Job
    from empir.models.ensemble import Ensemble

    name, combine, target = protocol
    batch_size = min(_chunk(experiment), len(data.labels))
    return Job(
        ensemble=Ensemble(members, combine, target, FLAGS.temperature),
        attack=attack,
        parameters=_parameters(attack, data, batch_size, seed),
        data=data,
        seed=seed,
        batch_size=batch_size,
        targeted=FLAGS.targeted,
        save_adversarial=FLAGS.save_adversarial,
        architecture=experiment.architecture,
        protocol=name,
        options=_recorded(options, experiment),
        show=_drawer(experiment, attack, data) if FLAGS.viz_enabled else None,
    )


def _attack_adaptively(experiment, specs, combine, data, seed, options, arrays):
    """Run the suite of `empir robustness` on the members of the flags: --protocol=adaptive."""
    from empir.evaluation import rounds, subjects, suite
    from empir.report import robustness

    source = subjects.Source(
        architecture=experiment.architecture,
        members=specs,
        outside=() if FLAGS.rand else subjects.independent(experiment),
        combine=combine,
        temperature=FLAGS.temperature,
        options=options,
        arrays=arrays,
        engine=FLAGS.engine,
        seed=seed,
    )
    setting = rounds.Setting(
        open=lambda: source.open(data),
        data=data,
        eps=FLAGS.eps,
        seed=seed,
        batch_size=min(_chunk(experiment), len(data.labels)),
        architecture=experiment.architecture,
        options=_recorded(options, experiment),
    )
    with contextlib.ExitStack() as stack:
        out = FLAGS.out or stack.enter_context(runs.temporary_folder())
        outcome = suite.run(setting, out, progress=FLAGS.progress)
        if FLAGS.out:
            robustness.write(outcome, data, out)
            log.info("%s holds the report", os.path.join(out, "report.html"))
    log.info("%s", robustness.terminal(outcome.record))
    _print_result(
        outcome.record["clean_accuracy"], outcome.record["worst_case_accuracy"], outcome.l2.mean()
    )


def _chunk(experiment):
    """Images per call of an attack, if there are so many."""
    return min(experiment.attack_batch or FLAGS.batch_size, FLAGS.nb_samples)


def _figure_path(experiment, attack):
    name = "adversarial" if FLAGS.out else "%s-%s" % (experiment.dataset, attack)
    return os.path.join(FLAGS.out or "", name + ".png")


def _drawer(experiment, attack, data):
    """`Job.show` of --viz_enabled: arrays of examples -> PNG file."""
    from empir.report import pairs  # here: if matplotlib is missing, nothing has been attacked yet

    title = "%s on %s" % (attack.upper(), experiment.title)
    how = dict(targeted=FLAGS.targeted, clip_range=data.clip_range, channels=data.channels)
    return lambda arrays: pairs.save(
        pairs.Pairs(title=title, **how, **arrays), _figure_path(experiment, attack)
    )


def _show_figure(path):
    """Say where --viz_enabled's file is, drawn now or when the run was finished, and show it."""
    from empir.report import pairs

    if not os.path.exists(path):
        log.warning("--viz_enabled has no effect: %s was finished without it", FLAGS.out)
        return
    log.info("%s shows the first images beside their adversarial images", path)
    sys.stdout.flush()  # the result, before a window is waited for
    pairs.show(path)


def _parameters(attack, data, batch_size, seed):
    return attack_parameters(
        attack,
        data.clip_range,
        batch_size,
        FLAGS.eps,
        FLAGS.eps_iter,
        FLAGS.nb_iter,
        FLAGS.attack_iterations,
        seed,
    )


def configure():
    """Apply the flags that must be known before TensorFlow is loaded.

    Raises:
      EmpirError: for a --gpu that names no GPU's number.
    """
    if FLAGS.gpu is not None:
        if not re.match(r"(-1|[0-9]{1,3}(,[0-9]{1,3})*)?\Z", FLAGS.gpu):
            raise EmpirError("--gpu=%s: write a GPU's number, e.g. 0, or nothing" % FLAGS.gpu)
        os.environ["CUDA_VISIBLE_DEVICES"] = FLAGS.gpu
    if FLAGS.debug:
        logging.getLogger("empir").setLevel(logging.DEBUG)


def _options(experiment):
    """Arguments of the network's builder that are asked for, or that differ from its defaults."""
    asked = {
        "stochastic_rounding": (FLAGS.stocRound, False),
        "temperature": (FLAGS.temperature, 1.0),
    }
    options = {key: value for key, (value, default) in asked.items() if value != default}
    if data_flags.given("nb_filters"):
        options["nb_filters"] = FLAGS.nb_filters
    return options


def _recorded(options, experiment):
    """Those of the builder's arguments that differ from its defaults."""
    usual = ("nb_filters", experiment.nb_filters)
    return {key: value for key, value in options.items() if (key, value) != usual}


def _is_to_be_trained(path):
    """Whether a network is trained: no --model_path, or a folder without a checkpoint.

    So it is if the folder holds an unfinished training, or with --train_only --resume a finished
    one of another number of epochs.

    Faithfulness: as the original, whose saving crashed (docs/original.md, Defects 1); a folder that
    does not exist is an error instead of a missing checkpoint met later (Defects 8).
    """
    from empir.models.checkpoints import has_checkpoint

    if path is None or training_folder.is_unfinished(path):
        return True
    if has_checkpoint(path):
        return FLAGS.train_only and FLAGS.resume and _is_to_be_trained_on(path)
    if os.path.isdir(path) and training_folder.is_free(path):
        return True
    if os.path.isdir(path):
        raise EmpirError(
            "no checkpoint in --model_path=%s, and it is not an empty folder to train in" % path
        )
    raise EmpirError(
        "no checkpoint at --model_path=%s; to train a network into it, make the folder first" % path
    )


def _is_to_be_trained_on(path):
    """Whether the finished training in a folder has another number of epochs than is asked for."""
    record = identity.training_record(path) if os.path.isdir(path) else None
    asked = FLAGS.student_epochs if defenses.asked("distill") else FLAGS.nb_epochs
    return record is not None and record.get("epochs") != asked


def _test_data(experiment):
    data = data_flags.load_data(experiment, "test")
    if data_flags.given("nb_samples"):
        return data.first(FLAGS.nb_samples)
    most = FLAGS.nb_samples
    if FLAGS.protocol == ADAPTIVE:
        most = ADAPTIVE_SAMPLES
        log.info("attacking the first %d images; --nb_samples takes others", most)
    return data.first(min(most, len(data.labels)))


def _train(experiment, network, precisions, options, path, seed):
    """Train one network as the flags say; returns its weights under their released names."""
    from empir.training import Settings

    if path is None:
        log.warning("training without --model_path: the network is attacked, then forgotten")
    rate = FLAGS[experiment.learning_rate_flag].value
    settings = Settings(
        network=network,
        precisions=precisions,
        options=options,
        epochs=FLAGS.nb_epochs,
        batch_size=FLAGS.batch_size,
        learning_rate=rate,
        seed=seed,
        label_smoothing=experiment.label_smoothing,
        schedule=experiment.schedule(rate, family(precisions) == "lp"),
        adam_epsilon=experiment.adam_epsilon,
    )
    return defenses.train(
        settings,
        experiment,
        data_flags.load_data(experiment, "train"),
        path,
        resume=FLAGS.resume,
        logdir=FLAGS.logdir,
        test=data_flags.load_data(experiment, "test"),
        test_each_epoch=FLAGS.test,
        progress=FLAGS.progress,
        keep_state=FLAGS.keep_state,
    )


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
        print("Avg. rate of successful targeted adv. examples: %.4f" % record["targeted_success"])
    _print_result(record["clean_accuracy"], record["adversarial_accuracy"], record["mean_l2"])


def _print_result(clean, adversarial, l2):
    print("Test accuracy on legitimate test examples: %.4f" % clean)
    print("Test accuracy on adversarial examples: %.4f" % adversarial)
    print("Avg. L_2 norm of perturbations: %.4f" % l2)
