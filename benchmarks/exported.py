"""Compare an exported PyTorch ensemble with the one in TensorFlow on all test images.

    python -m benchmarks.exported --dataset=cifar10 --data_dir=FOLDER --out=FILE.json

The ensemble is the dataset's in checkpoints. The record says on how many images the two decide
differently, per member and per decision rule, and by how much logits differ at most, as a share of
the largest.
"""

import json
import os
import subprocess

import numpy as np
from absl import flags

from benchmarks import worker_process
from empir import runtime
from empir.commands import commandline, shared_flags
from empir.errors import EmpirError
from empir.models import DECISION_RULES
from empir.records import provenance, runs

FLAGS = flags.FLAGS

SCHEMA = 1
#: What PyTorch runs: it gets the exported folder, a file of images, the file to write, and threads.
PROGRAM = """
import json, platform, sys
import numpy, torch
folder, images, out, threads = sys.argv[1:]
sys.path.insert(0, folder)
import model
torch.set_num_threads(int(threads))
net, images = model.load(), torch.from_numpy(numpy.load(images))
with torch.no_grad():
    logits = torch.cat([net.members(part) for part in images.split(500)])
decided = {name: rule(logits, net.reference).numpy() for name, rule in model.DECISIONS.items()}
numpy.savez(out, logits=logits.numpy(), **decided)
print(json.dumps({"torch": torch.__version__, "python": platform.python_version()}))
"""


def setup():
    """Define the flags; returns the main function."""
    shared_flags.define_command()
    flags.DEFINE_string("out", None, "JSON file of the result, which has no default")
    flags.DEFINE_string("pytorch", None, "Python with PyTorch; default: .venv-pytorch/bin/python")
    return main


def main(_):
    """Compute both, write the record, and print what differs.

    Raises:
      EmpirError: for bad input; `process.exit_with` prints it as one line.
    """
    if not FLAGS.out:
        raise EmpirError("--out is missing: name a JSON file for the result")
    runs.check_file(FLAGS.out)
    pytorch = worker_process.pytorch_program(FLAGS.pytorch)
    chosen = shared_flags.chosen_experiment(FLAGS.dataset)
    runtime.configure(FLAGS.num_threads)
    data = shared_flags.load_data(chosen, "test", FLAGS.sample)
    record = compare(chosen, data, pytorch)
    runs.write_json(FLAGS.out, record)
    print(
        f"{record['dataset']}: {record['images']} images, other decisions of members "
        f"{record['members_differ']}, of rules {record['rules_differ']}, logits differ by up to "
        f"{record['logits_differ']:.2g} of the largest"
    )


def compare(chosen, data, pytorch: str) -> dict:
    """The record of one dataset.

    Args:
      chosen: its `Experiment`.
      data: the test images.
      pytorch: Python of the PyTorch environment.

    Raises:
      EmpirError: if the program in PyTorch fails.
    """
    from empir import export, front
    from empir.export import source
    from empir.models.ensemble import Ensemble

    ensemble = front.load_ensemble(chosen.dataset)
    with runs.temporary_folder() as folder:
        exported, images, out = (os.path.join(folder, n) for n in ("net", "x.npy", "z.npz"))
        export.write(source.read(ensemble, chosen), "pytorch", exported)
        np.save(images, np.ascontiguousarray(data.images[:].transpose(0, 3, 1, 2)))
        command = [pytorch, "-B", "-c", PROGRAM, exported, images, out, str(runtime.threads())]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            reason = done.stderr.decode().strip().splitlines()[-1:]
            raise EmpirError(f"{pytorch} failed: {' '.join(reason)}")
        with np.load(out) as file:
            theirs = {name: file[name] for name in file.files}
    rules = {}
    for rule in DECISION_RULES:
        under = Ensemble(ensemble.members, rule)
        under.session = ensemble.session
        own = under.predict(data.images[:])
        rules[rule] = int((own.decision != theirs[rule]).sum())
    differ = own.members != theirs["logits"].argmax(2)
    told = provenance.of_run()
    return {
        "schema": SCHEMA,
        "dataset": chosen.dataset,
        "members": ensemble.describe()["members"],
        "images": len(data.labels),
        "data": data.describe(),
        "members_differ": differ.sum(0).tolist(),
        "rules_differ": rules,
        "logits_differ": float(
            np.abs(own.logits - theirs["logits"]).max() / np.abs(own.logits).max()
        ),
        **told,
        "versions": {"tensorflow": told["versions"], "pytorch": json.loads(done.stdout.decode())},
    }


if __name__ == "__main__":
    commandline.run_main(setup)
