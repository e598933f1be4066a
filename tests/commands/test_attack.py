"""What the example script does: results are kept and resumed, bad input is one line."""

import gzip
import hashlib
import json
import os
import re
import shutil

import numpy as np
import pytest

from empir import nn
from empir.commands import attack, commandline, defenses
from empir.data import mnist
from empir.models import checkpoints
from empir.runtime import progress_bar
from tests.support.in_process import run_here
from tests.support.released import narrow, save_members, save_trained
from tests.support.scripts import RESULT, assert_refused

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"

# Parts of command lines; the width, sizes and attack keep tests fast.
BITS = "--wbits=2 --abits=4 --wbits2=2 --abits2=4"
PATHS = "--model_path1=model1 --model_path2=model2 --model_path3=model3"
ENSEMBLE = "%s --ensembleThree %s" % (BITS, PATHS)
BASELINE = "--model_path=model3"
DATA = " --data_dir=data --nb_filters=4 --nb_samples=5"
FAST = DATA + " --attack=fgsm "


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder with members, damaged ones, and the sample as if it were the whole of MNIST."""
    folder = str(tmp_path_factory.mktemp("workspace"))
    save_members(folder)
    save_trained(os.path.join(folder, "told"), narrow("lp", 4, 7), ["w2a4"] * 3, epochs=1)
    save_trained(os.path.join(folder, "wider"), narrow("fp", 6, 8), ["fp"] * 3)
    checkpoints.save(os.path.join(folder, "dense"), {"dense/kernel": np.ones((784, 10), "f")})
    shutil.copytree(os.path.join(folder, "model3"), os.path.join(folder, "corrupt"))
    data = os.path.join(folder, "corrupt", "model.data-00000-of-00001")
    with open(data, "r+b") as file:
        file.truncate(1000)
    for name in ("empty", "data", "truncated", "wrong-size", "npz"):
        os.mkdir(os.path.join(folder, name))
    for kind in (IMAGES, LABELS):
        with gzip.open(os.path.join(mnist.SAMPLES, "t10k-%s.gz" % kind)) as file:
            idx = file.read()
        for path, content in (
            ("data/t10k-" + kind, idx),
            ("data/train-" + kind, idx),
            ("truncated/t10k-%s.gz" % kind, gzip.compress(idx)[:-100]),
            ("wrong-size/t10k-" + kind, idx[:-1]),
        ):
            with open(os.path.join(folder, path), "wb") as file:
                file.write(content)
    with open(os.path.join(folder, "npz", "mnist.npz"), "wb") as file:
        file.write(b"PK\3\4" + bytes(1000))
    return folder


@pytest.fixture
def run(workspace, monkeypatch, capfd):
    """Run the script in this process, in the workspace: command line -> as of a process."""
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(mnist, "SIZES", {"train": 1000, "test": 1000})
    for name in mnist.SHA256:
        with open(os.path.join(workspace, "data", name), "rb") as file:
            monkeypatch.setitem(mnist.SHA256, name, hashlib.sha256(file.read()).hexdigest())

    def run_script(line, setup=lambda: attack.setup("mnist")):
        argv = ["mnist_attack.py"] + line.split()
        return run_here(lambda: commandline.run_main(setup, argv), capfd)

    return run_script


def tree(folder):
    """Every file and folder below a folder."""
    return sorted(
        os.path.join(path, name)
        for path, folders, files in os.walk(folder)
        for name in folders + files
    )


TRAIN = "--train_only --model_path=empty --data_dir=data --nb_filters=4 "
LISTS = " --wbitsList=%s --abitsList=%s --lowprecision --model_path=model1" + DATA
BAD = [
    # command line, what the error says
    (ENSEMBLE + DATA + " --model_path1=missing", ["no checkpoint at missing"]),
    (ENSEMBLE + DATA + " --model_path2=empty", ["no checkpoint in empty"]),
    ("--ensembleThree %s --model_path1=model1" % BITS, ["--model_path2, --model_path3"]),
    ("--model_path=missing" + DATA, ["no checkpoint at --model_path=missing"]),
    ("--model_path=data" + DATA, ["--model_path=data", "not an empty folder"]),
    ("--model_path=corrupt" + DATA, ["corrupt/model cannot be read"]),
    (ENSEMBLE + DATA + " --model_path3=corrupt", ["corrupt/model cannot be read"]),
    ("--model_path=dense" + DATA, ["missing fp_conv1_init/k", "not expected dense/kernel"]),
    ("--model_path=model1" + DATA, ["model1 is not a full-precision MNISTconv"]),
    (ENSEMBLE + DATA + " --model_path2=model3", ["model3 is not a low-precision MNISTconv"]),
    (BASELINE + DATA + " --nb_filters=8", ["(8, 8, 1, 4), expected (8, 8, 1, 8)"]),
    (BASELINE + DATA + " --nb_filters=0", ["--nb_filters=0"]),
    (BASELINE + " --data_dir=missing", ["--data_dir=missing is not a folder"]),
    (BASELINE + " --data_dir=empty", ["empty holds neither t10k-images-idx3-ubyte"]),
    (BASELINE + " --data_dir=truncated", ["truncated/t10k-images-idx3-ubyte.gz cannot be read"]),
    (BASELINE + " --data_dir=wrong-size", ["wrong-size/t10k-images-idx3-ubyte holds 784015 bytes"]),
    ("--ensembleThree " + PATHS, ["--wbits is missing"]),
    (ENSEMBLE + " --abits=0", ["--abits is missing"]),
    (ENSEMBLE + " --wbits2=0", ["--wbits2 is missing"]),
    (ENSEMBLE + " --wbits=33", ["--wbits=33", "1..31"]),
    (ENSEMBLE + " --abits2=-1", ["--abits2=-1", "1..31"]),
    (ENSEMBLE + " --wbits2=2.5", ["wbits2", "2.5"]),
    (ENSEMBLE + " --wbits=32 --abits=32", ["--wbits=32"]),
    ("--lowprecision --model_path=model1 --wbits=2", ["--abits is missing"]),
    (LISTS % ("2,4", "4,4"), ["2 layer-wise precisions", "3 layers"]),
    (LISTS % ("2,4,2", "4,4"), ["3 layer-wise weight bits but 2 activation bits"]),
    (LISTS % ("2,33,2", "4,4,4"), ["33", "1..31"]),
    (LISTS % ("2,0,2", "4,4,4"), ["weight_bits=0", "1..31"]),
    (LISTS % ("2,x,2", "4,4,4"), ["--wbitsList=2,x,2"]),
    ("--wbitsList 2 4 2 --lowprecision --model_path=model1", ["--abitsList is missing"]),
    (ENSEMBLE + " --wbitsList=2,4,2 --abitsList=4,4,4", ["--wbits and --wbitsList exclude"]),
    (ENSEMBLE + " --abits2List=4,4,4", ["--wbits2 and --wbits2List exclude"]),
    (ENSEMBLE + " --model_path=model3", ["--model_path and --ensembleThree contradict"]),
    (ENSEMBLE + " --lowprecision", ["--lowprecision and --ensembleThree contradict"]),
    (
        ENSEMBLE + " --protocol=paper --combine=mean_probs",
        ["--protocol=paper means --combine=vote"],
    ),
    (ENSEMBLE + " --protocol=whitebox --attack_target=released", ["--attack_target=decision"]),
    (ENSEMBLE + " --protocol=honest", ["--protocol=honest", "paper, whitebox, adaptive"]),
    (ENSEMBLE + " --protocol=adaptive --attack_target=decision", ["drop --attack_target"]),
    (BASELINE + DATA + " --protocol=adaptive --eps=0", ["--eps=0", "a radius above 0"]),
    (ENSEMBLE + DATA + " --combine=median", ["combine='median'", "vote"]),
    (ENSEMBLE + DATA + " --attack_target=logits", ["attack_target='logits'", "released"]),
    (BASELINE + " --combine=vote", ["--combine is for ensembles"]),
    (BASELINE + " --attack_target=decision", ["--attack_target is for ensembles"]),
    (BASELINE + " --model_path1=model1", ["--model_path1 is for ensembles"]),
    (BASELINE + " --wbits=2", ["--wbits is for quantized networks", "--lowprecision"]),
    (BASELINE + " --stocRound", ["--stocRound is for quantized networks"]),
    (BASELINE + " --attack=deepfool", ["'deepfool'", "cw, fgsm, bim, pgd, jsma"]),
    (BASELINE + " --attack=5", ["'5'", "4 (bim)"]),
    (BASELINE + " --atack=cw", ["'atack'"]),
    (BASELINE + " cw", ["unexpected argument 'cw'"]),
    (BASELINE + DATA + " --nb_samples=0", ["nb_samples=0"]),
    (BASELINE + DATA + " --nb_samples=1001", ["nb_samples=1001", "1..1000"]),
    (BASELINE + " --nb_samples=ten", ["nb_samples", "ten"]),
    (BASELINE + FAST + "--eps=-0.1", ["eps=-0.1"]),
    (BASELINE + FAST + "--eps=nan", ["eps=nan"]),
    (BASELINE + DATA + " --attack=bim --nb_iter=0", ["nb_iter=0"]),
    (BASELINE + DATA + " --attack_iterations=0", ["attack_iterations=0"]),
    (BASELINE + " --num_threads=0", ["--num_threads=0"]),
    (BASELINE + " --num_threads=100000", ["--num_threads=100000", "[1, 512]"]),
    (BASELINE + FAST + "--gpu=first", ["--gpu=first: write a GPU's number"]),
    (BASELINE + DATA + " --attack=pgd --nb_iter=2147483648", ["--nb_iter=2147483648", "1000000]"]),
    (BASELINE + DATA + " --attack_iterations=3000000000", ["attack_iterations", "1000000]"]),
    (ENSEMBLE + DATA + " --temperature=inf", ["--temperature=inf: write a finite number > 0"]),
    (BASELINE + FAST + "--eps=8/x", ["--eps=8/x: write a finite number >= 0, e.g. 0.1 or 8/255"]),
    (BASELINE + " --data_dir=", ["--data_dir= is empty: give a value, or drop the flag"]),
    ("--train_only --model_path=empty --nb_filters=99999 --data_dir=data", ["--nb_filters=99999"]),
    (
        BASELINE + FAST + "--out=model3/model.meta/out",
        ["model3/model.meta", "is not a writable folder"],
    ),
    (
        BASELINE + FAST + "--out=model3/model.meta",
        ["model3/model.meta", "is not a writable folder"],
    ),
    ("--train_only", ["--train_only needs --model_path"]),
    ("--train_only " + ENSEMBLE, ["--train_only"]),
    ("--train_only --model_path=empty --nb_epochs=0" + DATA, ["epochs=0"]),
    ("--train_only --model_path=empty --batch_size=-1" + DATA, ["batch_size=-1"]),
    ("--train_only --model_path=empty --lr=0 --data_dir=data", ["--lr=0", "number > 0"]),
    (BASELINE + FAST + "--eps=inf", ["eps=inf"]),
    (BASELINE + FAST + "--eps=-0.1 --out=out", ["eps=-0.1"]),
    (BASELINE + DATA + " --attack=jsma --seed=-1", ["seed"]),
    (BASELINE + DATA + " --attack=pgd --seed=99999999999999999999", ["seed"]),
    ("--train_only --model_path=empty --seed=-1" + DATA, ["seed"]),
    (BASELINE + " --data_dir=npz", ["npz/mnist.npz cannot be read"]),
    ("--members=model1" + DATA, ["'model1' is not PRECISION:CHECKPOINT"]),
    ("--members=w2:model1" + DATA, ["precision 'w2'"]),
    ("--members=w2a4/fp:model1" + DATA, ["2 layer-wise precisions", "3 layers"]),
    ("--members=" + DATA, ["--members is empty"]),
    ("--members=fp:empty" + DATA, ["no checkpoint in empty"]),
    ("--members=fp:model1" + DATA, ["model1 is not a full-precision"]),
    ("--members=fp:model3 " + BASELINE, ["--model_path and --members exclude each other"]),
    ("--members=fp:model3 " + ENSEMBLE, ["--ensembleThree and --members exclude each other"]),
    ("--members=w2a4:model1,w2a4:model2 --protocol=paper" + DATA, ["needs a full-precision"]),
    ("--members=w1a2:told,fp:model3" + DATA, ["told is asked for as w1a2", "says w2a4"]),
    ("--lowprecision --wbits=2 --abits=2 --model_path=told" + DATA, ["as w2a2", "says w2a4"]),
    ("--members=w2a4:told,fp:wider" + DATA, ["its nb_filters is 6, but nb_filters=4 is asked"]),
    ("--model_path=wider --nb_filters=64 --data_dir=data", ["is 6, but nb_filters=64 is asked"]),
    ("--train_only --model_path=told --data_dir=data", ["told is asked for as fp", "says w2a4"]),
    (TRAIN + "--initial_path=wider", ["is 6, but nb_filters=4 is asked"]),
    (TRAIN + "--distill --teacher_path=wider", ["is 6, but nb_filters=4 is asked"]),
    (TRAIN + "--logdir=model3/model.meta/logs", ["--logdir=model3/model.meta/logs cannot be"]),
    (ENSEMBLE + DATA + " --temperature=0", ["temperature=0"]),
    (BASELINE + DATA + " --temperature=2", ["--temperature is for ensembles"]),
    (
        TRAIN + "--rand --lowprecision --wbits=2 --abits=4",
        ["--rand", "full precision", "drop bits"],
    ),
    (ENSEMBLE + DATA + " --rand", ["--rand", "full precision", "fp:CHECKPOINT"]),
    (BASELINE + DATA + " --rand", ["model3 is not", "it is not the network of --rand"]),
    (TRAIN + "--adv=3", ["--adv=3"]),
    (TRAIN + "--adv=1 --distill", ["--adv and --distill exclude each other"]),
    (TRAIN + "--adv=1 --inpgradreg", ["--adv and --inpgradreg exclude each other"]),
    (TRAIN + "--adv=1 --objective=cross-entropy", ["--objective and --adv exclude each other"]),
    (TRAIN + "--objective=hinge", ["--objective=hinge: choose from cross-entropy, pgd-adv"]),
    (TRAIN + "--objective=no.py:Hinge", ["--objective=no.py:Hinge cannot be imported", "no.py"]),
    (
        TRAIN + "--objective=os:getcwd",
        ["--objective=os:getcwd: ", "is no training objective: derive a frozen"],
    ),
    (TRAIN + "--objective=input-gradient", ["missing a required argument: 'l2dbl'"]),
    (
        TRAIN + "--objective=cross-entropy --objective_parameters=logit_divisor",
        ["--objective_parameters: 'logit_divisor' is not NAME=VALUE"],
    ),
    (
        TRAIN + "--objective=cross-entropy --objective_parameters=logit_divisor=0",
        ["logit_divisor=0 must be positive"],
    ),
    (TRAIN + "--adv=1 --nb_epochs=6", ["delay=10 leaves none of 6 epochs"]),
    (TRAIN + "--adv=2 --delay=0 --adv_radius=small", ["radius='small'", "scaled, released"]),
    (TRAIN + "--adv=2 --delay=0 --adv_eps=-1", ["eps=-1"]),
    (TRAIN + "--inpgradreg", ["l2dbl=0, l2cs=0", "above 0"]),
    (TRAIN + "--distill --student_epochs=0", ["epochs=0"]),
    (TRAIN + "--distill --teacher_path=model1", ["model1 is not a full-precision MNISTconv"]),
    (TRAIN + "--initial_path=missing", ["no checkpoint at missing"]),
    (TRAIN + "--initial_path=model1", ["to start from is not a full-precision MNISTconv"]),
]


@pytest.mark.parametrize("line, says", BAD, ids=[says[0] for _, says in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(run, workspace, line, says):
    before = tree(workspace)
    try:
        assert_refused(run(line), *says)
        assert tree(workspace) == before
    finally:
        for path in set(tree(workspace)) - set(before):
            shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("dataset", ["cifar10", "imagenet"])
def test_random_weights_are_refused_where_there_is_no_such_network(run, dataset):
    outcome = run("--rand --model_path=model3", lambda: attack.setup(dataset))
    assert_refused(outcome, "--rand is a network for MNIST only")


@pytest.mark.slow
def test_a_network_with_random_weights_is_trained_and_attacked(run, workspace, tmp_path):
    folder, out = str(tmp_path / "member"), str(tmp_path / "out")
    os.mkdir(folder)
    line = FAST + "--rand --model_path=" + folder
    assert run(line + " --train_only --nb_epochs=1").returncode == 0
    assert run(line + " --out=" + out).returncode == 0
    record = json.load(open(os.path.join(out, "result.json")))
    assert (record["architecture"], record["options"]) == ("MNISTconvRand", {"nb_filters": 4})
    assert record["members"][0]["sha256"] == checkpoints.digest(checkpoints.read(folder))
    assert_refused(run(line.replace("--rand", "")), "asked for as a MNISTconv, but")


def test_an_own_network_that_draws_at_random_is_not_computed_in_parts(run, tmp_path, monkeypatch):
    monkeypatch.setattr(nn, "REGISTERED", {})
    (tmp_path / "drawing.py").write_text(
        "from empir.nn import mnistconv_rand, register\n"
        "fields = dict(vars(mnistconv_rand.ARCHITECTURE), name='Drawing')\n"
        "DRAWING = register(**fields)\n"
    )
    line = f"--network={tmp_path}/drawing.py:DRAWING --members=fp:model3 --out=out --shard=1/2"
    assert_refused(run(line + DATA), "what draws at random depends on what was computed before")


@pytest.mark.parametrize("n", [0, 1001])
def test_bad_input_is_refused_before_a_network_is_trained(run, monkeypatch, n):
    monkeypatch.setattr(defenses, "train", lambda *arguments: pytest.fail("training was begun"))
    assert_refused(run("--model_path=empty --data_dir=data --nb_samples=%d" % n), "nb_samples")


def test_an_interrupted_run_is_one_line(run):
    def interrupted(argv):
        raise KeyboardInterrupt

    outcome = run("", setup=lambda: interrupted)
    assert (outcome.returncode, outcome.stdout, outcome.stderr.count("\n")) == (130, "", 1)
    assert outcome.stderr.startswith(
        "error: interrupted; the same command goes on from what it kept"
    )


@pytest.mark.slow
def test_a_result_is_kept_resumed_and_protected(run, tmp_path):
    line = "%s %s --out=%s" % (BASELINE, FAST, tmp_path / "out")
    first = run(line)
    assert first.returncode == 0 and RESULT.match(first.stdout)
    before = (tmp_path / "out" / "result.json").read_bytes()
    assert_refused(run(line), "result.json exists", "--resume")
    assert run(line + " --resume").stdout == first.stdout
    assert_refused(run(line + " --resume --eps=0.1"), "another run", '"eps": 0.1')
    assert (tmp_path / "out" / "result.json").read_bytes() == before
    assert sorted(os.listdir(str(tmp_path / "out"))) == [
        "examples.npz",
        "images.npz",
        "result.json",
    ]


@pytest.mark.slow
def test_layer_wise_bits_are_kept_per_layer(run, tmp_path):
    line = "--lowprecision --wbitsList 2 32 2 --abitsList 4 3 2 --model_path=model1"
    assert run("%s %s --out=%s" % (line, FAST, tmp_path)).returncode == 0
    with open(str(tmp_path / "result.json")) as file:
        (member,) = json.load(file)["members"]
    assert member["weight_bits"] == [2, None, 2]
    assert member["activation_bits"] == [4, 3, 2]


@pytest.mark.slow
def test_ensembles_of_any_number_of_members(run, tmp_path):
    listed = "w2a4:model1,w2a4/w2a4/w2a4:model2,fp:model3,fp:model3,w2a4:model1"
    line = "--members=%s --protocol=paper --out=%s" % (listed, tmp_path)
    assert run(line + FAST).returncode == 0
    with open(str(tmp_path / "result.json")) as file:
        record = json.load(file)
    assert [m["path"] for m in record["members"]] == ["model%d" % i for i in (1, 2, 3, 3, 1)]
    assert [m["weight_bits"] for m in record["members"]] == [2, 2, None, None, 2]
    assert len(record["member_accuracy"]) == 5 and record["combine"] == "vote"


@pytest.mark.slow
def test_widths_are_the_checkpoints(run, tmp_path):
    widths = "--data_dir=data --nb_samples=5 --attack=fgsm --out=%s"
    retyped = run("--members=w2a4:told,fp:model3" + FAST)
    line = "--members=w2a4:told,fp:model3 " + widths % (tmp_path / "one")
    assert run(line).stdout == retyped.stdout and RESULT.match(retyped.stdout)
    line = "--members=w2a4:told,fp:wider " + widths % (tmp_path / "two")
    assert run(line).returncode == 0
    records = [json.loads((tmp_path / n / "result.json").read_text()) for n in ("one", "two")]
    assert [record["options"] for record in records] == [{"nb_filters": 4}, {}]
    assert ["nb_filters" in member for member in records[0]["members"]] == [False, False]
    assert [member["nb_filters"] for member in records[1]["members"]] == [4, 6]


@pytest.mark.slow
def test_a_finished_training_is_trained_on(run, workspace, tmp_path):
    (tmp_path / "member").mkdir()
    (tmp_path / "once").mkdir()
    line = "--train_only --data_dir=data --nb_filters=2 --batch_size=500 --seed=3 --model_path="
    assert run(line + "%s --nb_epochs=1" % (tmp_path / "member")).returncode == 0
    (tmp_path / "member" / ".removed-state").mkdir()  # as a kill at the very end leaves
    again = run(line + "%s --nb_epochs=1 --resume" % (tmp_path / "member"))
    assert not (tmp_path / "member" / ".removed-state").exists()
    assert "--resume has no effect: the network of --model_path is trained" in again.stderr
    on = run(line + "%s --nb_epochs=2 --resume" % (tmp_path / "member"))
    assert on.returncode == 0 and "no effect" not in on.stderr and "from the beginning" in on.stderr
    assert run(line + "%s --nb_epochs=2" % (tmp_path / "once")).returncode == 0
    weights = [checkpoints.read(str(tmp_path / name)) for name in ("member", "once")]
    assert checkpoints.digest(weights[0]) == checkpoints.digest(weights[1])
    assert_refused(
        run(line + "%s --nb_epochs=1 --resume" % (tmp_path / "member")), "was trained for 2 epochs"
    )


@pytest.mark.slow
def test_a_training_starts_at_the_width_of_its_first_weights(run, tmp_path):
    line = "--train_only --data_dir=data --nb_epochs=1 --batch_size=500 --initial_path=wider "
    assert run(line + "--model_path=%s" % tmp_path).returncode == 0
    with open(str(tmp_path / "training.json")) as file:
        assert json.load(file)["options"] == {"nb_filters": 6}


@pytest.mark.slow
def test_three_listed_members_are_ensemble_three(run):
    listed = run("--members=w2a4:model1,w2a4:model2,fp:model3" + FAST)
    assert listed.returncode == 0 and listed.stdout == run(ENSEMBLE + FAST).stdout


@pytest.mark.slow
def test_a_temperature_is_kept_in_the_record(run, tmp_path):
    line = ENSEMBLE + FAST + "--combine=mean_probs --temperature=%s --out=%s"
    outs = [run(line % (t, tmp_path / str(t))).stdout for t in (1, 0.01)]
    assert RESULT.match(outs[1])
    for temperature, options in ((1, {"nb_filters": 4}), (0.01, {"temperature": 0.01})):
        with open(str(tmp_path / str(temperature) / "result.json")) as file:
            record = json.load(file)
        assert options.items() <= record["options"].items()


DEFENSES = {
    "--adv=1 --delay=0 --nb_iter=2 --adv_eps_iter=0.2": {"name": "pgd-adversarial", "nb_iter": 2},
    "--adv=2 --delay=0": {"name": "fgsm-adversarial", "eps": 0.3, "radius": "scaled"},
    "--adv=2 --delay=0 --adv_radius=released": {"name": "fgsm-adversarial", "eps": 0.3},
    "--objective=fgsm-adversarial --objective_parameters=eps=8/255": {"eps": 8 / 255, "start": 0},
    "--inpgradreg --l2dbl=100 --l2cs=1": {"name": "input-gradient", "l2dbl": 100.0, "l2cs": 1.0},
    "--distill --student_epochs=1": {"name": "distillation", "temperature": 100.0, "hard": 0.5},
    "--initial_path=../model3": {"name": "cross-entropy"},
}


@pytest.mark.slow
@pytest.mark.parametrize("line", DEFENSES)
def test_the_originals_other_trainings(run, workspace, monkeypatch, tmp_path, line):
    folder = tmp_path / "member"
    folder.mkdir()
    shutil.copytree(os.path.join(workspace, "data"), str(tmp_path / "data"))
    shutil.copytree(os.path.join(workspace, "model3"), str(tmp_path / "model3"))
    monkeypatch.chdir(tmp_path / "data")
    line += " --train_only --model_path=../member --data_dir=. --nb_filters=4 --nb_epochs=1"
    outcome = run(line)
    assert outcome.returncode == 0, outcome.stderr
    assert "no effect" not in outcome.stderr
    with open(str(folder / "training.json")) as file:
        record = json.load(file)
    (expected,) = [v for k, v in DEFENSES.items() if line.startswith(k + " --train_only")]
    assert expected.items() <= record["objective"].items()
    assert (record["initial"] is not None) == ("initial_path" in line)
    assert (folder / "teacher").is_dir() == ("--distill" in line)
    # What was trained is a checkpoint like any other.
    evaluated = run("--model_path=../member --data_dir=. --nb_filters=4 --nb_samples=5 --attack=2")
    assert RESULT.match(evaluated.stdout)


def test_an_unreadable_result_is_refused(run, tmp_path):
    (tmp_path / "result.json").write_text('{"schema": 1')
    outcome = run("%s %s --resume --out=%s" % (BASELINE, FAST, tmp_path))
    assert_refused(outcome, str(tmp_path / "result.json"))


@pytest.mark.slow
def test_a_targeted_attack_says_how_often_it_succeeded_first(run):
    outcome = run(BASELINE + FAST + "--targeted")
    first, rest = outcome.stdout.split("\n", 1)
    assert re.match(r"Avg\. rate of successful targeted adv\. examples: \d\.\d{4}\Z", first)
    assert RESULT.match(rest)


@pytest.mark.slow
def test_a_flag_without_effect_is_warned_about(run):
    err = run(BASELINE + FAST + "--nb_iter=3 --nb_epochs=2").stderr
    assert "--nb_iter has no effect: --attack=fgsm does not read it\n" in err
    assert "--nb_epochs has no effect: the networks are loaded, not trained\n" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    "line, flag",
    [
        (BASELINE + FAST + "--save_adversarial", "--save_adversarial"),  # there is no --out
        (BASELINE + FAST + "--resume", "--resume"),  # nor anything to resume
        (BASELINE + DATA + " --train_only --out=out", "--out"),
        (BASELINE + DATA + " --train_only --attack=fgsm", "--attack"),
        (BASELINE + DATA + " --train_only --viz_enabled", "--viz_enabled"),
        (BASELINE + FAST + "--keep_state", "--keep_state"),
        (BASELINE + FAST + "--adv=1", "--adv"),  # loaded, not trained
        (BASELINE + FAST + "--initial_path=model3", "--initial_path"),
    ],
)
def test_no_flag_is_ignored_silently(run, line, flag):
    assert re.search(re.escape(flag) + r"\b(?!_)", run(line).stderr)


def test_progress_is_silent_where_nobody_watches(capfd):
    for enabled in (True, False):
        with progress_bar(3, "epoch", "batch", enabled) as bar:
            bar.update(3)
    assert capfd.readouterr() == ("", "")
