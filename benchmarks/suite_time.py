"""Time the adaptive suite beside AutoAttack on the same networks and images.

    python -m benchmarks.suite_time --data_dir=FOLDER --out=results/benchmark/suite_time.json

FOLDER holds mnist and cifar-10-batches-bin. A row is the name of a record in results/robustness:
its networks are attacked at its radius under its decision rule, first by `empir robustness`,
without curves and controls, and then by AutoAttack (`benchmarks.autoattack`), each in a process of
its own. The seconds are those of the attacks, without imports. Nothing else should run meanwhile.
The same command goes on where it was stopped, and measures no row again that --out holds or --runs
has finished; remove both to measure on another machine.
"""

import os

from absl import flags

from benchmarks import commands, throughput
from benchmarks.pages import suite_time as report
from benchmarks.pages.shapes import SUITE_TIME
from empir import published, runtime
from empir.commands import commandline, shared_flags
from empir.errors import EmpirError
from empir.nn.precision import Precision
from empir.records import runs
from empir.report import shapes

FLAGS = flags.FLAGS

#: Networks of which much and of which little is left, and of each kind.
ROWS = [
    "mnist-ensemble-0.1-vote",
    "mnist-baseline-0.1",
    "cifar10-ensemble-8-255-mean_logits",
    "cifar10-baseline-8-255",
    "cifar10-ensemble-2-255-vote",
]
#: What must be the same in all rows of a record.
SAME = ("processor", "versions", "images")


def setup():
    """Define the flags; returns the main function."""
    flags.DEFINE_list(
        "rows", None, "Names of records in results/robustness. By default, " + ", ".join(ROWS) + "."
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder that holds mnist and cifar-10-batches-bin. By default Keras' cache.",
    )
    shared_flags.define_count("nb_samples", 200, "Test images, drawn with each class's share.")
    flags.DEFINE_string("runs", os.path.join("runs", "suite_time"), "Folder of the runs.")
    flags.DEFINE_string("out", None, "JSON file of the record. By default it is only printed.")
    shared_flags.define_threads()
    return main


def main(_):
    """Measure the rows that are missing, write the record after each, and print its table.

    Raises:
      EmpirError: for a row without a record, a record of another machine, or a command that fails.
    """
    published.require_clone("benchmarks.suite_time")
    runtime.configure(FLAGS.num_threads)
    networks = {name: _networks(name) for name in FLAGS.rows or ROWS}
    record = dict(throughput.made(), images=FLAGS.nb_samples, rows={})
    if FLAGS.out is not None:
        runs.check_file(FLAGS.out)
        if os.path.exists(FLAGS.out):
            record["rows"] = _rows(FLAGS.out, record)
    for name, words in networks.items():
        if name not in record["rows"]:
            record["rows"][name] = measure(name, words)
            if FLAGS.out is not None:
                runs.write_json(FLAGS.out, record)
    print(report.table(record, os.path.join(runtime.ROOT, "results", "robustness")))


def measure(name: str, words: list) -> dict:
    """Attack what a record is of by the suite, then by AutoAttack.

    Args:
      name: of the record.
      words: flags that say what is attacked.

    Returns:
      "suite" and "autoattack", each with the "seconds" of its attacks and the "accuracy" left, and
      "equal", the seconds after which the suite left no more than AutoAttack; None if it never did.
    """
    out, common = os.path.join(FLAGS.runs, name), ["--noprogress"]
    folder = commands.data_folder(FLAGS.data_dir, name.split("-")[0])
    if folder:
        common.append(f"--data_dir={folder}")
    if FLAGS.num_threads:
        common.append(f"--num_threads={FLAGS.num_threads}")
    own = [f"--nb_samples={FLAGS.nb_samples}", "--subset=stratified", "--noanalyses"]
    commands.run("empir", "robustness", *words, *own, *common, f"--out={out}")
    if not os.path.exists(f"{out}.json"):
        commands.run("benchmarks.autoattack", f"--run={out}", *common, f"--out={out}.json")
    suite = shapes.read(os.path.join(out, "result.json"), shapes.ROBUSTNESS)
    other = shapes.read(f"{out}.json", shapes.OUTSIDE)["autoattack"]
    return {
        "suite": {
            "seconds": sum(trial["seconds"] for trial in suite["trials"]),
            "accuracy": suite["worst_case_accuracy"],
        },
        "autoattack": {
            "seconds": sum(attack["seconds"] for attack in other["attacks"]),
            "accuracy": other["accuracy"],
        },
        "equal": seconds_until(suite["trials"], other["accuracy"]),
    }


def seconds_until(trials: list, accuracy: float):
    """Seconds of a suite's attacks up to the one after which no more than an accuracy is left.

    Args:
      trials: the attacks in order, with their "seconds" and the "worst_case" after them.
      accuracy: what is asked for.

    Returns:
      The seconds, or None where the suite leaves more.
    """
    passed = 0.0
    for trial in trials:
        passed += trial["seconds"]
        if trial["worst_case"] <= accuracy:
            return passed
    return None


def _networks(name):
    """The flags that say what a record in results/robustness attacked."""
    path = os.path.join(runtime.ROOT, "results", "robustness", f"{name}.json")
    if not os.path.exists(path):
        raise EmpirError(f"--rows={name}: results/robustness has no such record")
    record = shapes.read(path, shapes.ROBUSTNESS)
    members = ",".join(
        f"{Precision.of(member['weight_bits'], member['activation_bits'])}:{member['path']}"
        for member in record["members"]
    )
    words = [f"--dataset={record['dataset']}", f"--members={members}", f"--eps={record['eps']!r}"]
    words.append(f"--norm={record['norm']}")
    return words + [f"--combine={record['combine']}"] * (len(record["members"]) > 1)


def _rows(path, now):
    """The rows of a record, which must be of this machine and of as many images."""
    before = shapes.read(path, SUITE_TIME)
    found = ({key: record.get(key) for key in SAME} for record in (before, now))
    changed = runs.differences(*found)
    if changed:
        raise EmpirError(
            f"{path} is of another kind ({'; '.join(changed)}): remove it to measure anew"
        )
    return dict(before["rows"])


if __name__ == "__main__":
    commandline.run_main(setup)
