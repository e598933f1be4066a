"""Adversarial training of the study: when it ends, what it keeps, and that it goes on."""

import json
import os

import numpy as np
import pytest

from benchmarks.study import adversarial, plan
from empir.data import mnist, own

MEMBER = plan.Training("mnist", "w2a4", seed=1, defended=True)


class Commands:
    """Takes the place of `empir`: each training leaves a file, each attack an accuracy."""

    def __init__(self, accuracies, killed_at=None):
        self.accuracies, self.killed_at, self.seen = accuracies, killed_at, []

    def __call__(self, module, command, *words):
        flags = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
        self.seen.append((command, flags))
        if len(self.seen) == self.killed_at:
            raise KeyboardInterrupt
        if command == "train":
            for name in ("model.index", "checkpoint"):
                with open(os.path.join(flags["model_path"], name), "w") as file:
                    file.write(flags["nb_epochs"])
        else:
            epochs = int(os.path.basename(flags["out"]))
            os.makedirs(flags["out"], exist_ok=True)
            told = {
                "adversarial_accuracy": self.accuracies[
                    (epochs - plan.DELAY) // adversarial.EVERY - 1
                ]
            }
            with open(os.path.join(flags["out"], "result.json"), "w") as file:
                json.dump(told, file)

    @property
    def epochs(self):
        """Those of the trainings, in order."""
        return [int(flags["nb_epochs"]) for command, flags in self.seen if command == "train"]


def train(folder, commands):
    adversarial.train(MEMBER, str(folder), "held-out.npz", ["--num_threads=1"], commands)


def test_it_ends_after_three_attacks_without_progress_and_keeps_the_best(tmp_path):
    commands = Commands([0.2, 0.5, 0.4, 0.5, 0.3])
    train(tmp_path, commands)
    assert commands.epochs == [4, 6, 8, 10, 12]
    assert (tmp_path / "model.index").read_text() == (tmp_path / "checkpoint").read_text() == "6"
    assert adversarial.checks(str(tmp_path))[1] == {"epochs": 6, "accuracy": 0.5}
    train(tmp_path, commands)
    assert len(commands.epochs) == 5  # it is over


@pytest.mark.parametrize("killed_at", range(1, 11))
def test_one_that_was_killed_goes_on_to_the_same_end(tmp_path, killed_at):
    accuracies = [0.2, 0.5, 0.4, 0.5, 0.3]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Commands(accuracies, killed_at))
    train(tmp_path, Commands(accuracies))
    assert [check["accuracy"] for check in adversarial.checks(str(tmp_path))] == accuracies
    assert (tmp_path / "model.index").read_text() == "6"


def test_its_commands_train_and_attack_at_the_radius_on_the_held_out_images(tmp_path):
    commands = Commands([0.0] * 4)
    train(tmp_path, commands)
    (_, first), (_, second) = commands.seen[:2]
    assert (first["adv"], first["adv_eps"], first["wbits"]) == ("1", "0.3", "2")
    assert second["eps"] == "0.3" and second["members"] == f"w2a4:{tmp_path}/training"
    assert {flags["data"] for _, flags in commands.seen} == {"held-out.npz"}
    assert {flags["num_threads"] for _, flags in commands.seen} == {"1"}


def test_it_ends_after_the_most_epochs():
    rising = [{"epochs": 2 * n, "accuracy": n / 100} for n in range(1, 31)]
    assert not adversarial.is_over([]) and not adversarial.is_over(rising[:-1])
    assert adversarial.is_over(rising) and 2 * len(rising) == adversarial.MOST


def test_the_held_out_images_are_the_last_and_are_not_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(adversarial, "HELD_OUT", 3)
    data = mnist.load(sample=True).first(10)
    path = str(tmp_path / "new" / "held-out.npz")
    adversarial.hold_out(data, path)
    for split, rows in (("train", slice(0, 7)), ("test", slice(7, 10))):
        found = own.load(split, path)
        np.testing.assert_array_equal(found.labels, data.labels[rows])
        np.testing.assert_allclose(found.images[:], data.images[:][rows], atol=1e-6)
