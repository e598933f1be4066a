"""Forks of a process that has imported what takes long, each as if a process of its own."""

import os
import sys
import traceback


def forked(run):
    """The status, as of `os.waitpid`, that a fork of this process ends with after `run()`."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 0
    try:
        run()
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
