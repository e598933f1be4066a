"""Costly files that tests only read, made once however many workers run the tests."""

import fcntl
import os


def made_once(tmp_path_factory, name, make):
    """A folder that `make(folder)` has filled.

    xdist may spread the tests of a module over several workers, each of which makes the module's
    fixtures. The first one fills the folder, and others wait for it.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # all workers' of this run
    folder, is_made = base / name, base / (name + ".made")
    with open(str(base / (name + ".lock")), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_made.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            is_made.touch()
    return folder
