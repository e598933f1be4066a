"""Flags to members, protocols and warnings; the original's ways of writing them."""

import dataclasses

import pytest
from absl import flags

from empir import attacks
from empir.commands import attack_flags, commandline
from empir.commands import flags as empir_flags
from empir.commands import shared_flags
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.nn.precision import FULL, Precision
from tests.support.scripts import remove_flags

PATHS = "--model_path1=model1 --model_path2=model2 --model_path3=model3"
ENSEMBLE = "--wbits=2 --abits=4 --wbits2=2 --abits2=4 --ensembleThree " + PATHS


@pytest.fixture
def parse():
    """Parse a command line of the script into absl's flags, which are removed afterwards."""

    def parse_line(line):
        empir_flags.define(EXPERIMENTS["mnist"])
        assert flags.FLAGS(commandline.join_bit_lists(["script"] + line.split())) == ["script"]

    yield parse_line
    remove_flags()


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder, in which a network can be trained, as the current one."""
    monkeypatch.chdir(tmp_path)


LAYERS = (Precision(2, 4), Precision(None, 3), Precision(2, 2))


@pytest.mark.parametrize(
    "line, expected",
    [
        ("", [(FULL, None)]),
        ("--model_path=model3", [(FULL, "model3")]),
        ("--lowprecision --wbits=1 --abits=31 --model_path=x", [(Precision(1, 31), "x")]),
        ("--lowprecision --wbits=2 --abits=32 --model_path=x", [(Precision(2, None), "x")]),
        ("--lowprecision --wbitsList=2,32,2 --abitsList=4,3,2", [(LAYERS, None)]),
        ("--lowprecision --wbitsList 2 32 2 --abitsList 4 3 2", [(LAYERS, None)]),
        (
            ENSEMBLE,
            [(Precision(2, 4), "model1"), (Precision(2, 4), "model2"), (FULL, "model3")],
        ),
        (
            "--ensembleThree %s --wbits=3 --abits=5 --wbits2List 2 32 2 --abits2List 4 3 2" % PATHS,
            [(Precision(3, 5), "model1"), (LAYERS, "model2"), (FULL, "model3")],
        ),
        ("--members=w1a2:x", [(Precision(1, 2), "x")]),
        (
            "--members=w2a4/w32a3/w2a2:a/b:c,fp:model3",
            [(LAYERS, "a/b:c"), (FULL, "model3")],
        ),
    ],
)
def test_flags_become_members(parse, line, expected):
    parse(line)
    assert [(spec.precision, spec.path) for spec in attack_flags.members()] == expected


@pytest.mark.parametrize(
    "line, expected",
    [
        ("", ("whitebox", "mean_logits", "decision")),
        ("--protocol=whitebox", ("whitebox", "mean_logits", "decision")),
        ("--protocol=paper", ("paper", "vote", "released")),
        ("--protocol=paper --combine=vote", ("paper", "vote", "released")),
        ("--protocol=adaptive", ("adaptive", "mean_logits", None)),
        ("--protocol=adaptive --combine=vote", ("adaptive", "vote", None)),
        ("--combine=vote --attack_target=released", ("paper", "vote", "released")),
        ("--combine=vote", (None, "vote", "decision")),
        ("--attack_target=full_precision", (None, "mean_logits", "full_precision")),
    ],
)
def test_flags_become_a_protocol(parse, line, expected):
    parse(line)
    assert dataclasses.astuple(attack_flags.protocol()) == expected


@pytest.mark.parametrize(
    "line, attack, training, ignored",
    [
        ("", "cw", False, []),
        ("--eps=0.3", "cw", False, ["eps"]),  # given, if at its default
        ("--eps=0.1 --eps_iter=0.1 --nb_iter=3", "fgsm", False, ["eps_iter", "nb_iter"]),
        ("--eps=0.1 --eps_iter=0.1 --nb_iter=3", "pgd", False, []),
        ("--true_labels", "pgd", False, []),
        ("--true_labels", "jsma", False, ["true_labels"]),
        ("--true_labels --targeted", "pgd", False, ["true_labels"]),
        ("--attack_iterations=9", "bim", False, ["attack_iterations"]),
        ("--attack_iterations=9", "cw", False, []),
        ("--nb_epochs=3 --lr=0.1 --batch_size=8 --test", "cw", True, []),
        ("--nb_epochs=3 --lr=0.1", "cw", False, ["lr", "nb_epochs"]),
        ("--batch_size=8 --test --logdir=x", "cw", False, ["batch_size", "logdir", "test"]),
        ("--adv=1 --delay=3 --nb_iter=7", "cw", True, []),
        ("--adv=1 --delay=3 --nb_iter=7 --train_only --model_path=.", "cw", True, []),
        ("--adv=2 --adv_eps_iter=0.1 --nb_iter=7", "cw", True, ["adv_eps_iter", "nb_iter"]),
        ("--adv=1 --adv_radius=released", "cw", True, ["adv_radius"]),
        (
            "--delay=3 --l2dbl=100 --student_epochs=2",
            "cw",
            True,
            ["delay", "l2dbl", "student_epochs"],
        ),
        ("--inpgradreg --l2dbl=100", "cw", False, ["inpgradreg", "l2dbl"]),
        ("--protocol=adaptive --eps=0.1 --seed=3 --nb_samples=5", "cw", False, []),
        (
            "--protocol=adaptive --attack=pgd --eps_iter=1 --nb_iter=3 --targeted --viz_enabled"
            " --true_labels",
            "pgd",
            False,
            ["attack", "eps_iter", "nb_iter", "targeted", "true_labels", "viz_enabled"],
        ),
    ],
)
def test_flags_that_a_run_does_not_read_are_told(parse, empty, line, attack, training, ignored):
    parse(line)
    request = attack_flags.read(EXPERIMENTS["mnist"])
    request = dataclasses.replace(request, attack=attack, training=training)
    told = dict(attack_flags.without_effect(request))
    assert sorted(told) == ignored and all(told.values())


@pytest.mark.parametrize(
    "argv, joined",
    [
        ("--wbitsList 2 4 2", "--wbitsList=2,4,2"),
        ("--wbitsList 2 4 2 --abits=3", "--wbitsList=2,4,2 --abits=3"),
        ("--wbits2List 2 4 2 --abits2List 4 4 4", "--wbits2List=2,4,2 --abits2List=4,4,4"),
        ("-abitsList 2", "-abitsList=2"),
        ("--wbitsList 2 -1 2", "--wbitsList=2,-1,2"),
        ("--wbitsList", "--wbitsList="),
        ("--wbitsList --abits=3", "--wbitsList= --abits=3"),
        ("--wbitsList=2,4,2 --wbits 2 3", "--wbitsList=2,4,2 --wbits 2 3"),
        ("--nb_samples 2 4 2", "--nb_samples 2 4 2"),
        ("", ""),
    ],
)
def test_lists_of_bits_may_be_separated_by_spaces(argv, joined):
    assert commandline.join_bit_lists(["script"] + argv.split()) == ["script"] + joined.split()


@pytest.mark.parametrize(
    "given, name",
    [
        ("0", "cw"),
        ("1", "jsma"),
        ("2", "fgsm"),
        ("3", "pgd"),
        ("4", "bim"),
        ("PGD", "pgd"),
        (4, "bim"),
    ],
)
def test_attacks_have_the_originals_numbers(given, name):
    assert attacks.canonical_name(given) == name


#: docs/original.md, Flags: the flags' defaults of each script; None: it has no flag of that name.
DEFAULTS = {
    "nb_filters": (64, 32, 32),
    "nb_epochs": (15, 6, 6),
    "batch_size": (128, 128, 100),
    "lr": (0.001, None, None),
    "learning_rate": (None, 0.001, 0.001),
    "eps": (0.3, 0.1, 0.1),
    "nb_iter": (40, 40, 40),
    "attack_iterations": (50, 50, 50),
    "nb_samples": (10000, 10000, 50000),
    "delay": (10, 10, 10),
    "student_epochs": (50, 50, None),
    "data_dir": ("unset", "unset", None),
    "imagenet_path": (None, None, "unset"),
    "val_label_offset": (None, None, "unset"),
}


@pytest.mark.parametrize("number, dataset", enumerate(EXPERIMENTS))
def test_the_flags_have_the_originals_names_and_defaults(number, dataset):
    empir_flags.define(EXPERIMENTS[dataset])
    try:
        for name, defaults in DEFAULTS.items():
            expected, known = defaults[number], flags.FLAGS
            assert (name in known) == (expected is not None), name
            assert expected is None or known[name].default == (
                None if expected == "unset" else expected
            ), name
    finally:
        remove_flags()


CONTRADICTIONS = [
    ("mnist", "--sample --data_dir=x", "--sample and --data_dir exclude each other"),
    ("imagenet", "--sample --imagenet_path=x", "--sample and --imagenet_path exclude each other"),
    ("imagenet", "--data_dir=x", "--data_dir is not for ImageNet: drop it"),
    ("mnist", "--imagenet_path=x", "--imagenet_path is not for MNIST: drop it"),
    ("cifar10", "--val_label_offset=1", "--val_label_offset is not for CIFAR-10: drop it"),
    ("mnist", "--correct_channels", "--correct_channels is not for MNIST: drop it"),
]


@pytest.mark.parametrize("dataset, line, says", CONTRADICTIONS)
def test_flags_of_data_that_contradict_each_other_are_refused(dataset, line, says):
    shared_flags.define_command()
    try:
        flags.FLAGS(["script"] + line.split())
        with pytest.raises(EmpirError, match=says):
            shared_flags.load_data(EXPERIMENTS[dataset], "test", flags.FLAGS.sample)
    finally:
        remove_flags()
