"""Folders and files that are kept to one process while it writes."""

import contextlib
import errno
import fcntl
import os

from empir.errors import EmpirError, ResumeError

LOCK = ".lock"  # locked by the process that writes to the folder it lies in

#: What a file system without locks answers.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def lock(folder: str):
    """Keep a folder to this process while a `with` block runs; it is made if it is missing.

    The operating system holds the lock, on the file `LOCK` in the folder, so a process that is
    killed leaves none behind. At the end the file is removed, and so are folders that this call
    made and that are still empty. On a file system without locks nothing is kept out.

    Raises:
      ResumeError: if another process, or another block of this one, has the folder.
      EmpirError: if the folder cannot be made or written to.
    """
    return _locked(folder, os.path.join(folder, LOCK), folder)


def lock_file(path: str):
    """As `lock`, for one file, by one beside it: `path` with `LOCK` appended."""
    return _locked(os.path.dirname(path) or ".", path + LOCK, path)


@contextlib.contextmanager
def _locked(folder, lock_path, what):
    made = _missing_folders(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        file = _lock_file(lock_path)
    except BlockingIOError:
        raise ResumeError(f"{what} is in use by another run: wait until it ends, or use another")
    except OSError as error:
        raise EmpirError(f"cannot write to {folder}: {error.strerror}")
    try:
        yield
    finally:
        try:
            with contextlib.suppress(OSError):
                os.remove(lock_path)
        finally:
            os.close(file)
        with contextlib.suppress(OSError):
            for path in made:
                os.rmdir(path)


def _missing_folders(folder):
    """The folders that making `folder` makes, the innermost first."""
    missing, path = [], os.path.abspath(folder)
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _lock_file(path):
    """Descriptor of the locked file at `path`; `BlockingIOError` if it is locked already."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(file)
                raise
        # Who had the lock before may have removed the file between our opening and locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), os.lstat(path)):
                return file
        os.close(file)
