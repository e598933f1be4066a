"""Commands in the test's own process, which spares them the import of TensorFlow."""

import contextlib
import logging
import subprocess

from tests.support.scripts import remove_flags


@contextlib.contextmanager
def logging_as_before():
    """Undo what a command does to the package's logger."""
    logger = logging.getLogger("empir")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def run_here(command, capfd) -> subprocess.CompletedProcess:
    """Run a command, and undo what it does to flags and logging.

    Args:
      command: a function without arguments that ends as a process does, by SystemExit, or returns.
      capfd: pytest's fixture.

    Returns:
      Its exit status and streams, as of a process of its own.
    """
    status = 0
    with logging_as_before():
        try:
            command()
        except SystemExit as error:
            status = error.code or 0
        finally:
            remove_flags()
    return subprocess.CompletedProcess([], status, *capfd.readouterr())
