"""Exceptions that name a bad value and its fix; scripts print them as one line and exit with 2."""


class EmpirError(ValueError):
    """Bad input. The message names the value, the accepted ones and, where known, the fix."""


class CheckpointError(EmpirError):
    """A checkpoint that is missing, corrupt, or of another network or precision."""


class DataError(EmpirError):
    """A data file that is missing, truncated, or not what its name says."""


class ResumeError(EmpirError):
    """State on disk that belongs to another run, or that a fresh run would overwrite."""
