"""The example scripts in new processes, and what their standard output ends with."""

import json
import os
import re
import subprocess
import sys

from absl import flags

from tests.support import ROOT

MNIST_SCRIPT = os.path.join(ROOT, "examples", "mnist_attack.py")

RESULT = re.compile(
    r"Test accuracy on legitimate test examples: (\d\.\d{4})\n"
    r"Test accuracy on adversarial examples: (\d\.\d{4})\n"
    r"Avg\. L_2 norm of perturbations: (\d+\.\d{4})\n\Z"
)


def run_script(python, script, arguments, folder, home=""):
    """Run a script in a new process, without a network and with an empty home."""
    environment = dict(
        os.environ, HOME=str(home or folder), https_proxy="http://127.0.0.1:9", no_proxy=""
    )
    return subprocess.run(
        [python, "-B", script] + arguments.split(),
        cwd=str(folder),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def run_module(module, line, folder=ROOT):
    """`python -m MODULE LINE` in a new process, in a folder; or a command, as in "empir cost"."""
    return subprocess.run(
        [sys.executable, "-B", "-m"] + module.split() + line.split(),
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def remove_flags():
    """Undefine this package's flags, so that they can be defined and parsed again."""
    for module, defined in list(flags.FLAGS.flags_by_module_dict().items()):
        if module.startswith(("empir.", "benchmarks.")):
            for flag in list(defined):
                delattr(flags.FLAGS, flag.name)
    flags.FLAGS.unparse_flags()


def assert_result(process, record):
    """Standard output is the three lines of the record's numbers."""
    assert process.returncode == 0, process.stderr
    match = RESULT.match(process.stdout)
    assert match, process.stdout
    numbers = (record["clean_accuracy"], record["adversarial_accuracy"], record["mean_l2"])
    assert match.groups() == tuple("%.4f" % number for number in numbers)


def readme_record(script, line, folder, out, bits):
    """The record of a README command: (process, record) of a line that the script runs in a folder.

    Args:
      script: (command line, folder) -> as of a process.
      line, folder: of the command; the record goes to `out`.
      bits: (weight_bits, activation_bits) of each member that the record is to name.
    """
    process = script(f"{line} --out={out}", folder)
    assert process.returncode == 0, process.stderr
    with open(os.path.join(str(out), "result.json")) as file:
        record = json.load(file)
    assert_result(process, record)
    assert [(m["weight_bits"], m["activation_bits"]) for m in record["members"]] == bits
    return process, record


def assert_refused(process, *texts):
    """One line on standard error that holds the texts, exit status 2, no result."""
    assert (process.returncode, process.stdout) == (2, ""), process.stderr
    assert re.match(r"error: [^\n\x00-\x1f]+\n\Z", process.stderr), process.stderr
    for text in texts:
        assert text in process.stderr
