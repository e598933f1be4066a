"""Commands that the study and benchmarks run, and the data that they read."""

import logging
import os
import subprocess
import sys
from typing import Optional

from empir.errors import EmpirError
from empir.runtime import ROOT

log = logging.getLogger("empir")

#: Folder of each dataset's files in a folder that holds both.
FOLDERS = {"mnist": "mnist", "cifar10": "cifar-10-batches-bin"}


def data_folder(data_dir: Optional[str], dataset: str) -> Optional[str]:
    """Folder of a dataset's files below `data_dir`; None, Keras' cache, without one."""
    return os.path.join(data_dir, FOLDERS[dataset]) if data_dir else None


def run_quietly(command: list):
    """Run a command from the clone's root without showing what it prints.

    Raises:
      EmpirError: if it fails, with its last line.
    """
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise EmpirError(done.stderr.decode().strip().split("\n")[-1])


def run(module: str, *words: str):
    """Run a module from the clone's root; its messages and output go to standard error.

    Raises:
      EmpirError: if it fails.
    """
    log.info("%s %s", module, " ".join(words))
    status = subprocess.call([sys.executable, "-m", module, *words], cwd=ROOT, stdout=sys.stderr)
    if status:
        raise EmpirError(f"{module} {words[0]} ended with status {status}: see its message above")
