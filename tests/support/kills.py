"""Processes that die, and disks that are full, within the test."""

import contextlib
import itertools
import os
import resource
from typing import Callable, Iterator

#: Calls of `os` that change which files and folders there are.
CHANGES = ("mkdir", "rename", "replace", "link", "symlink", "unlink", "remove", "rmdir")


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the process is to catch it."""


def killed_runs(monkeypatch, run: Callable[[int], object]) -> Iterator[int]:
    """Kill `run` before its first change of a file or folder, then before its second, and so on.

    Args:
      monkeypatch: pytest's.
      run: called with the number of changes that it is left to make, from 0 on, until it ends
        without being killed; to make a folder that is there is no change. Each call is to use a
        folder of its own.

    Yields:
      That number after each kill, for the test to go on from what the killed run left. As in a
      process that is dead, changes that `finally` blocks make after the kill do not happen.
    """
    for number in itertools.count():
        killed = []
        with killed_after(monkeypatch, number, killed):
            run(number)
        if not killed:
            return
        yield number


@contextlib.contextmanager
def killed_after(monkeypatch, changes: int, killed: list):
    """The block is left after so many changes of files and folders, and before one more.

    Args:
      monkeypatch: pytest's.
      changes: how many.
      killed: gets an item if the block has not ended before.
    """
    left = [None] * changes

    def limited(change):
        def call(*arguments, **options):
            if killed:
                return None
            if not left:
                killed.append(True)
                raise Killed
            result = change(*arguments, **options)
            left.pop()
            return result

        return call

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        for name in CHANGES:
            patch.setattr(os, name, limited(getattr(os, name)))
        yield


@contextlib.contextmanager
def limited_files(size: int):
    """No file can become larger than `size` bytes; writing more fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
