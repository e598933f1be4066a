"""The flags of `empir attack` and of the example scripts.

This module only defines them; `empir.commands.attack_flags` reads them.
"""

from absl import flags

from empir import attacks
from empir.commands import cluster_flags, defenses, shared_flags
from empir.commands.shared_flags import define_count, define_number, define_switches, define_texts
from empir.data import subsets
from empir.experiments import Experiment
from empir.nn import MOST_FILTERS


def define(experiment: Experiment):
    """Define every flag of an example script with the experiment's defaults."""
    defenses.define(experiment)
    shared_flags.define_data(experiment.data_flag)
    shared_flags.define_own_data(experiment.data_flag)
    _define_run(experiment)
    _define_networks(experiment)
    _define_training(experiment)
    _define_attack(experiment)
    _define_view()


def _define_run(experiment):
    define_texts(
        gpu="The number of the GPU to use; an empty value stands for none. By default "
        "CUDA_VISIBLE_DEVICES decides, or else all are used.",
        out="The folder for result.json and examples.npz. By default nothing is kept.",
    )
    define_switches(
        resume="Continue a killed run in --out, or a killed training in --model_path.",
        debug="Log details, and the traceback of an error.",
    )
    shared_flags.define_threads()
    shared_flags.define_seed(
        None,
        "The seed of training, random starts and random targets. By default it is the original's "
        f"{experiment.seed}.",
    )
    shared_flags.define_progress()


def _define_networks(experiment):
    paths = {
        f"model_path{number}": f"The checkpoint of model {number} of --ensembleThree. It has no "
        "default."
        for number in (1, 2, 3)
    }
    define_texts(
        model_path="The checkpoint of a single network, or an empty folder to train a network in. "
        "By default a network is trained, attacked and not kept.",
        **paths,
    )
    define_switches(
        ensembleThree="Attack the ensemble of models 1 and 2, which are quantized, and model 3, "
        "which is not.",
        lowprecision="The network of --model_path is quantized.",
    )
    shared_flags.define_members("By default the other flags name the networks.")
    for suffix, which in (("", "model 1 or of the single network"), ("2", "model 2")):
        for letter, what in (("w", "weights"), ("a", "activations")):
            name, text = f"{letter}bits{suffix}", f"The bits of the {what} of {which}, "
            missing = text + "1..31. 0 stands for a value that is missing."
            flags.DEFINE_integer(name, 0, missing)
            text += f"one value for each quantized layer. By default --{name} holds for all."
            flags.DEFINE_list(f"{name}List", None, text)
    text = "The width of a network that is trained. A network that is loaded has the width of its "
    define_count("nb_filters", experiment.nb_filters, text + "checkpoint.", MOST_FILTERS)
    shared_flags.define_kinds()
    shared_flags.define_runtime()


def _define_training(experiment):
    define_count("nb_epochs", experiment.nb_epochs, "The number of training epochs.")
    text = "The number of images of a training step."
    if experiment.attack_batch is None:
        text += " It is also the number of images that are attacked together."
    define_count("batch_size", experiment.batch_size, text)
    rate = experiment.learning_rate
    define_number(experiment.learning_rate_flag, rate, "The learning rate of Adam.", zero=False)
    define_switches(
        train_only="Train the network of --model_path, then stop.",
        test="Log the test accuracy after each epoch.",
        keep_state="Keep the state of the optimizer in --model_path when a training is over. With "
        "--resume and a larger --nb_epochs it then goes on from there instead of from the "
        "beginning.",
    )
    define_texts(
        logdir="The folder for TensorBoard summaries of a training. By default none are written."
    )


def _define_attack(experiment):
    names = ", ".join(attacks.TABLE)
    flags.DEFINE_string("attack", "cw", f"The attack: {names}, or the original's 0..4.")
    cluster_flags.define_shard()
    cluster_flags.define_scheduler()
    text = "The number of test images to attack; --subset says which."
    define_count("nb_samples", experiment.nb_samples, text)
    shared_flags.define_subset(subsets.FIRST)
    define_switches(
        targeted="Attack each image towards every class but the true one.",
        true_labels="Attack away from the true classes. By default it is away from what the model "
        "decides on clean images, right or wrong, as in the original.",
        save_adversarial="Keep the adversarial images in examples.npz.",
        viz_enabled="Draw the first images beside their adversarial images, into a PNG file.",
    )
    text = "The radius of FGSM, BIM and PGD, e.g. 0.1 or 8/255."
    define_number("eps", experiment.eps, text)
    define_number("eps_iter", experiment.eps_iter, "The step size of BIM and PGD.", zero=False)
    text = "The number of steps of BIM and PGD, and of PGD in training."
    define_count("nb_iter", experiment.nb_iter, text)
    define_count("attack_iterations", experiment.cw_iterations, "The number of steps of CW.")


def _define_view():
    define_texts(
        protocol="How a result is decided and what is attacked: paper, whitebox, or adaptive, "
        "which is a suite of attacks. By default it is whitebox.",
        attack_target="What an attack on an ensemble differentiates: decision, full_precision, "
        "majority_probs or released. By default the protocol decides.",
    )
    shared_flags.define_combine(None, " By default the protocol decides.")
    text = "The factor on the members' logits inside the softmax of an ensemble, as in the "
    text += "original: the inverse of what is usually called temperature."
    define_number("temperature", 1.0, text, zero=False)
    flags.DEFINE_bool(
        "engine",
        None,
        "Compute networks by empir.fast.engine (--engine) or layer by layer (--noengine). The two "
        "agree up to rounding. By default the engine is used unless there is a GPU or the network "
        "draws at random.",
    )
