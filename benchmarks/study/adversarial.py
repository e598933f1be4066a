"""Adversarial training that goes on until it improves no more on images that are held out of it."""

import os
import shutil
from typing import Callable, List

import numpy as np

from benchmarks.study import plan
from empir.data import Dataset
from empir.records import runs

#: The last training images are held out of the training; so many of them are attacked by PGD of so
#: many steps, drawn with each class's share.
HELD_OUT, JUDGED, STEPS = 5000, 1000, 20
#: The held-out images are attacked after each so many epochs of adversarial training, which ends
#: after so many attacks in a row that left no more than an earlier one, or after so many epochs.
EVERY, PATIENCE, MOST = 2, 3, 60
RECORD = "validation.json"


def hold_out(data: Dataset, path: str):
    """Write the training images of a dataset as `--data` takes them, the held-out ones as tests."""
    images, labels = np.rint(255 * data.images[:]).astype(np.uint8), np.asarray(data.labels)
    runs.make_folder(os.path.dirname(path))
    with runs.replacing(path) as file:
        np.savez(
            file,
            x_train=images[:-HELD_OUT],
            y_train=labels[:-HELD_OUT],
            x_test=images[-HELD_OUT:],
            y_test=labels[-HELD_OUT:],
        )


def train(training: plan.Training, folder: str, data: str, flags: List[str], run: Callable):
    """Train until the held-out images say that it improves no more, or go on with that.

    Args:
      training: what to train.
      folder: gets the weights of which most held-out images were left, and `RECORD`.
      data: the file of `hold_out`.
      flags: of all commands.
      run: runs a command of these words.
    """
    work, found = os.path.join(folder, "training"), checks(folder)
    common = [f"--data={data}", "--noprogress", *flags]
    _, eps, step = plan.DEFENDED[training.dataset]
    while not is_over(found):
        epochs = plan.DELAY + EVERY * (len(found) + 1)
        runs.make_folder(work)
        words = ["--resume", "--keep_state", f"--model_path={work}", *training.flags(epochs)]
        run("empir", "train", *words, *common)
        out = os.path.join(folder, "attacks", str(epochs))
        words = [f"--dataset={training.dataset}", f"--members={training.precision}:{work}"]
        words += ["--attack=pgd", f"--eps={eps}", f"--eps_iter={step}", f"--nb_iter={STEPS}"]
        words += [f"--nb_samples={JUDGED}", "--subset=stratified", "--resume", f"--out={out}"]
        run("empir", "attack", *words, *common)
        accuracy = runs.read_json(os.path.join(out, "result.json"))["adversarial_accuracy"]
        if all(accuracy > check["accuracy"] for check in found):
            _keep(work, folder)
        found.append({"epochs": epochs, "accuracy": accuracy})
        runs.write_json(os.path.join(folder, RECORD), {"checks": found})


def checks(folder: str) -> List[dict]:
    """The epochs and the accuracy of each attack on the held-out images so far."""
    path = os.path.join(folder, RECORD)
    return runs.read_json(path)["checks"] if os.path.exists(path) else []


def is_over(checks: List[dict]) -> bool:
    """Whether a training has improved for the last time, by its attacks so far."""
    accuracies = [check["accuracy"] for check in checks]
    since = len(accuracies) - 1 - accuracies.index(max(accuracies)) if accuracies else 0
    return since >= PATIENCE or EVERY * len(accuracies) >= MOST


def _keep(work, folder):
    """Copy a checkpoint; `checkpoint`, by which it is found, last."""
    names = [name for name in os.listdir(work) if os.path.isfile(os.path.join(work, name))]
    for name in sorted(names, key="checkpoint".__eq__):
        shutil.copyfile(os.path.join(work, name), os.path.join(folder, name))
