"""The flags of `empir attack` and of the example scripts.

This module only defines them; `empir.commands.attack_flags` reads them.
"""

from absl import flags

from empir import attacks
from empir.commands import cluster_flags, defenses
from empir.commands.shared_flags import (
    define_combine,
    define_count,
    define_data,
    define_kinds,
    define_members,
    define_number,
    define_own_data,
    define_progress,
    define_seed,
    define_subset,
    define_threads,
)
from empir.data import subsets
from empir.experiments import Experiment
from empir.nn import MOST_FILTERS

FLAGS = flags.FLAGS


def define(experiment: Experiment):
    """Define every flag of an example script with the experiment's defaults."""
    defenses.define(experiment)
    define_data(experiment.data_flag)
    define_own_data(experiment.data_flag)
    _define_run(experiment)
    _define_networks(experiment)
    _define_training(experiment)
    _define_attack(experiment)
    _define_view()


def _define_run(experiment):
    flags.DEFINE_string(
        "gpu",
        None,
        "The number of the GPU to use; an empty value stands for none. By default "
        "CUDA_VISIBLE_DEVICES decides, or else all are used.",
    )
    define_threads()
    define_seed(
        None,
        "The seed of training, random starts and random targets. By default it is the original's "
        f"{experiment.seed}.",
    )
    flags.DEFINE_string(
        "out", None, "The folder for result.json and examples.npz. By default nothing is kept."
    )
    flags.DEFINE_bool(
        "resume", False, "Continue a killed run in --out, or a killed training in --model_path."
    )
    define_progress()
    flags.DEFINE_bool("debug", False, "Log details, and the traceback of an error.")


def _define_networks(experiment):
    flags.DEFINE_string(
        "model_path",
        None,
        "The checkpoint of a single network, or an empty folder to train a network in. By default "
        "a network is trained, attacked and not kept.",
    )
    for number in (1, 2, 3):
        flags.DEFINE_string(
            f"model_path{number}",
            None,
            f"The checkpoint of model {number} of --ensembleThree. It has no default.",
        )
    flags.DEFINE_bool(
        "ensembleThree",
        False,
        "Attack the ensemble of models 1 and 2, which are quantized, and model 3, which is not.",
    )
    define_members("By default the other flags name the networks.")
    flags.DEFINE_bool("lowprecision", False, "The network of --model_path is quantized.")
    for suffix, which in (("", "model 1 or of the single network"), ("2", "model 2")):
        for letter, what in (("w", "weights"), ("a", "activations")):
            name = f"{letter}bits{suffix}"
            text = (
                f"The bits of the {what} of {which}, 1..31. 0 stands for a value that is missing."
            )
            flags.DEFINE_integer(name, 0, text)
            text = f"The bits of the {what} of {which}, one value for each quantized layer. "
            flags.DEFINE_list(f"{name}List", None, f"{text}By default --{name} holds for all.")
    define_count(
        "nb_filters",
        experiment.nb_filters,
        "The width of a network that is trained. A network that is loaded has the width of its "
        "checkpoint.",
        MOST_FILTERS,
    )
    define_kinds()


def _define_training(experiment):
    define_count("nb_epochs", experiment.nb_epochs, "The number of training epochs.")
    text = "The number of images of a training step."
    if experiment.attack_batch is None:
        text += " It is also the number of images that are attacked together."
    define_count("batch_size", experiment.batch_size, text)
    rate = experiment.learning_rate
    define_number(experiment.learning_rate_flag, rate, "The learning rate of Adam.", zero=False)
    flags.DEFINE_bool("train_only", False, "Train the network of --model_path, then stop.")
    flags.DEFINE_bool("test", False, "Log the test accuracy after each epoch.")
    flags.DEFINE_string(
        "logdir",
        None,
        "The folder for TensorBoard summaries of a training. By default none are written.",
    )
    flags.DEFINE_bool(
        "keep_state",
        False,
        "Keep the state of the optimizer in --model_path when a training is over. With --resume "
        "and a larger --nb_epochs it then goes on from there instead of from the beginning.",
    )


def _define_attack(experiment):
    names = ", ".join(attacks.TABLE)
    flags.DEFINE_string("attack", "cw", f"The attack: {names}, or the original's 0..4.")
    cluster_flags.define()
    text = "The number of test images to attack; --subset says which."
    define_count("nb_samples", experiment.nb_samples, text)
    define_subset(subsets.FIRST)
    flags.DEFINE_bool("targeted", False, "Attack each image towards every class but the true one.")
    flags.DEFINE_bool(
        "true_labels",
        False,
        "Attack away from the true classes. By default it is away from what the model decides on "
        "clean images, right or wrong, as in the original.",
    )
    text = "The radius of FGSM, BIM and PGD, e.g. 0.1 or 8/255."
    define_number("eps", experiment.eps, text)
    define_number("eps_iter", experiment.eps_iter, "The step size of BIM and PGD.", zero=False)
    text = "The number of steps of BIM and PGD, and of PGD in training."
    define_count("nb_iter", experiment.nb_iter, text)
    define_count("attack_iterations", experiment.cw_iterations, "The number of steps of CW.")
    flags.DEFINE_bool("save_adversarial", False, "Keep the adversarial images in examples.npz.")
    flags.DEFINE_bool(
        "viz_enabled",
        False,
        "Draw the first images beside their adversarial images, into a PNG file.",
    )


def _define_view():
    flags.DEFINE_string(
        "protocol",
        None,
        "How a result is decided and what is attacked: paper, whitebox, or adaptive, which is a "
        "suite of attacks. By default it is whitebox.",
    )
    define_combine(None, " By default the protocol decides.")
    flags.DEFINE_string(
        "attack_target",
        None,
        "What an attack on an ensemble differentiates: decision, full_precision, majority_probs or "
        "released. By default the protocol decides.",
    )
    text = (
        "The factor on the members' logits inside the softmax of an ensemble, as in the original: "
    )
    text += "the inverse of what is usually called temperature."
    define_number("temperature", 1.0, text, zero=False)
    flags.DEFINE_bool(
        "engine",
        None,
        "Compute networks by empir.fast.engine (--engine) or layer by layer (--noengine). The two "
        "agree up to rounding. By default the engine is used unless there is a GPU or the network "
        "draws at random.",
    )
