"""Run AutoAttack, in PyTorch, on the networks and images of a finished run of `empir robustness`.

    python -m benchmarks.autoattack --run=runs/robustness --data_dir=FOLDER --out=FILE.json

The members' weights go to PyTorch networks, which must compute the same logits. First they classify
the adversarial images of the run, under its decision rule. --run=results/robustness/NAME.json, the
record of a run with NAME.npz beside it, has no adversarial images, and this step is left out. Then
AutoAttack (Croce and Hein 2020, arXiv 2003.01690), which is its authors' package in the standard
version, attacks the networks with the norm and radius of the run; `pytorch_model.followed` has the
logits that it follows. Each of its attacks gets the images that are still classified correctly.
FILE.json.partial holds what is done meanwhile, and the same command continues there.
"""

import os
from typing import NamedTuple, Optional

import numpy as np
from absl import flags

from benchmarks import protocol, worker_process, workloads
from benchmarks.autoattack_progress import BATCH, SEED, AutoAttack, State
from benchmarks.robustness_run import HEAD, Attacked, read_images, read_record
from empir import published, runtime
from empir.commands import commandline, shared_flags
from empir.commands.shared_flags import define_count
from empir.data import Dataset
from empir.errors import EmpirError
from empir.experiments import EXPERIMENTS
from empir.models.checkpoints import MemberSpec
from empir.nn import architecture
from empir.nn.precision import Precision
from empir.records import locks, provenance, runs
from empir.report.robustness import NORMS, percent
from empir.report.tables import aligned

FLAGS = flags.FLAGS

SCHEMA = 1
#: PyTorch's OpenMP threads wait for each other by spinning. Where other processes use the processor
#: too, the usual length of that makes them several times as slow; this one is nowhere slower.
ENVIRONMENT = {"GOMP_SPINCOUNT": "30000"}


def setup():
    """Define the flags; returns the main function."""
    flags.DEFINE_string(
        "run",
        None,
        "folder that was --out of empir robustness, or a record in results/; no default",
    )
    shared_flags.define_data("data_dir")
    shared_flags.define_own_data("data_dir")
    flags.DEFINE_bool("sample", False, "as of the run: images embedded in the repository")
    define_count("nb_samples", None, "the first n of the run's images; default: all")
    flags.DEFINE_string("out", None, "JSON file of the result, which has no default")
    flags.DEFINE_string("pytorch", None, "Python with PyTorch; default: .venv-pytorch/bin/python")
    shared_flags.define_threads()
    flags.DEFINE_bool("progress", True, "progress bars on a terminal")
    return main


def main(_):
    """Read the run, attack, write the record, and print a summary.

    Raises:
      EmpirError: for bad input; `process.exit_with` prints it as one line.
    """
    for name, what in (
        ("run", "the folder or the record of a run"),
        ("out", "a JSON file for the result"),
    ):
        if not FLAGS[name].value:
            raise EmpirError(f"--{name} is missing: name {what}")
    runs.check_file(FLAGS.out)
    pytorch = worker_process.pytorch_program(FLAGS.pytorch)
    record = read_record(FLAGS.run)
    runtime.configure(FLAGS.num_threads)
    # The network of an experiment may have been attacked on data of the user's own.
    (chosen,) = (e for e in EXPERIMENTS.values() if e.architecture == record["architecture"])
    data = shared_flags.load_data(chosen, "test", FLAGS.sample)
    attacked = read_images(FLAGS.run, record, data, FLAGS.nb_samples)
    print(summary(check(attacked, pytorch, FLAGS.out, progress=FLAGS.progress)))


def check(
    attacked: Attacked,
    pytorch: str,
    out: str,
    *,
    progress: bool = True,
    budget: Optional[dict] = None,
) -> dict:
    """Run AutoAttack on a run's networks and images; returns the record, which it writes to `out`.

    Args:
      attacked: see `read_images`.
      pytorch: Python of the PyTorch environment.
      out: path of the record. A file beside it holds the progress, from which a call continues.
      progress: whether to show progress bars.
      budget: "steps" and "queries" of AutoAttack, for tests; None is its standard version.

    Raises:
      ResumeError: if another process writes to `out`, or the file with the progress is damaged.
      EmpirError: if a member's weights are not the run's, or the PyTorch networks compute other
        logits, or AutoAttack gives an image that is not within the radius.
    """
    with locks.lock_file(out), runs.temporary_folder() as folder:
        workload = os.path.join(folder, "workload.npz")
        own = export(attacked.record, attacked.data, workload)
        clean = own.decisions == attacked.data.labels
        command = [pytorch, "-m", "benchmarks.autoattack_worker", workload]
        command += [f"--combine={attacked.record['combine']}", f"--reference={own.reference}"]
        command.append(f"--threads={runtime.threads()}")
        with worker_process.started({"PyTorch": command}, ENVIRONMENT) as workers:
            worker = workers["PyTorch"]
            logits = own.logits[: protocol.MEASURED_IMAGES]
            difference = worker_process.compare_logits(worker, logits)
            environment = worker.ask("environment")
            transferred = {}
            if attacked.adversarial is not None:
                transferred["transferred"] = _transferred(worker, attacked, clean, folder)
            state = State(f"{out}.partial", _description(attacked, environment, budget))
            auto = AutoAttack(worker, attacked, state, folder, budget or {})
            auto.run(progress)
        robust = clean & ~attacked.found
        told = provenance.of_run()
        record = dict(
            {key: attacked.record[key] for key in HEAD},
            schema=SCHEMA,
            images=len(robust),
            clean_accuracy=float(clean.mean()),
            suite_accuracy=float(robust.mean()),
            logits=difference,
            autoattack=auto.describe(environment, robust),
            stronger_by=100 * (int(robust.sum()) - int(auto.correct.sum())) / len(robust),
            versions={"tensorflow": told["versions"], "pytorch": environment["versions"]},
            git_commit=told["git_commit"],
            command=told["command"],
            **transferred,
        )
        runs.write_json(out, record)
        state.remove()
        return record


class Exported(NamedTuple):
    """What TensorFlow makes of the images of a workload.

    Attributes:
      logits: mean logits, float32 [n, classes].
      decisions: classes under the decision rule, int64 [n].
      reference: index of the member that decides ties of a vote (`Ensemble.reference`).
    """

    logits: np.ndarray
    decisions: np.ndarray
    reference: int


def export(record: dict, data: Dataset, path: str) -> Exported:
    """Write the workload of a run's members; returns what TensorFlow makes of its images.

    Raises:
      CheckpointError: see `member.load_members`.
      EmpirError: if a checkpoint's weights are not those of the run.
    """
    from empir.models.ensemble import Ensemble, mean_logits
    from empir.models.member import load_members
    from empir.runtime import tf

    network = architecture(record["architecture"])
    specs = [
        MemberSpec(
            Precision.of(member["weight_bits"], member["activation_bits"]),
            _checkpoint(member["path"]),
        )
        for member in record["members"]
    ]
    with tf.Graph().as_default(), runtime.session(operations=1) as session:
        members = load_members(network, specs, session, **record.get("options", {}))
        for member, entry in zip(members, record["members"]):
            if member.sha256 != entry["sha256"]:
                raise EmpirError(f"{entry['path']} holds other weights than the run attacked")
        workload = workloads.make_workload(network, members, data, session)
        protocol.write_workload(path, workload)
        images = tf.placeholder(tf.float32, (None,) + workload.images.shape[1:])
        ensemble = Ensemble(members, record["combine"])
        logits = ensemble.member_logits(images)
        wanted = [mean_logits(logits), ensemble.decisions(logits)[ensemble.combine]]
        parts = [
            session.run(wanted, {images: workload.images[i : i + BATCH]})
            for i in range(0, len(workload.labels), BATCH)
        ]
        return Exported(*map(np.concatenate, zip(*parts)), ensemble.reference)


def _checkpoint(path):
    """A checkpoint's path as the run gave it, or else in this clone."""
    there = any(os.path.exists(path + end) for end in ("", ".index"))
    return path if there else os.path.join(published.clone(), path)


def _transferred(worker, attacked, clean, folder):
    """How many adversarial images the PyTorch networks misclassify, of those found by the run."""
    path = os.path.join(folder, "adversarial.npy")
    np.save(path, attacked.adversarial)
    decisions = np.array(worker.ask("decide", images=path)["decisions"])
    found = clean & attacked.found
    misclassified = found & (decisions != attacked.data.labels)
    return {"images": int(found.sum()), "adversarial": int(misclassified.sum())}


def _description(attacked, environment, budget):
    """What determines AutoAttack's result."""
    return dict(
        {key: attacked.record[key] for key in HEAD},
        images=len(attacked.found),
        seed=SEED,
        batch_size=BATCH,
        budget=budget,
        versions=environment["versions"],
    )


def summary(record: dict) -> str:
    """The record of `check` in a few lines for a terminal."""
    auto, images = record["autoattack"], f"{record['images']}"
    rows = [["attack", "images", "s", "accuracy, %"]]
    rows.append(["clean", images, "", percent(record["clean_accuracy"])])
    for attack in auto["attacks"]:
        cells = [attack["name"], f"{attack['attacked']}", f"{attack['seconds']:.0f}"]
        rows.append(cells + [percent(attack["accuracy_after"])])
    rows.append(["the suite", images, "", percent(record["suite_accuracy"])])
    lines = aligned(rows) + [""]
    lines.append(
        f"{record['dataset']}, {record['architecture']}, {len(record['members'])} members, "
        f"{record['combine']}, {NORMS[record['norm']]} radius {record['eps']:g}, {images} "
        f"images: accuracy is {percent(auto['accuracy'])} % after {auto['package']} and "
        f"{percent(record['suite_accuracy'])} % after the suite."
    )
    lines.append(_stronger(record["stronger_by"], auto))
    counts = record.get("transferred")
    if counts:
        lines.append(
            f"The PyTorch networks misclassify {counts['adversarial']} of {counts['images']} "
            "adversarial images of the suite."
        )
    for attack in auto["attacks"]:
        for text, count in sorted(attack["warnings"].items()):
            lines.append(f"AutoAttack warns, {attack['name']}, {count} times: {text}")
    return "\n".join(lines)


def _stronger(points, auto):
    """Whether AutoAttack or the suite is stronger, and on how many images each succeeds alone."""
    alone = {"AutoAttack": auto["broken_by_it_alone"], "The suite": auto["broken_by_suite_alone"]}
    strength = "AutoAttack and the suite are equally strong"
    if points:
        stronger = "AutoAttack" if points > 0 else "The suite"
        strength = f"{stronger} is stronger by {abs(points):.2f} points"
    return f"{strength}. " + " ".join(
        f"{name} alone succeeds on {count} images." for name, count in alone.items()
    )


if __name__ == "__main__":
    commandline.run_main(setup)
