"""Say what checkpoints hold, and keep the manifest of the shipped ones.

    empir checkpoints verify PATH...   say what each checkpoint holds, or what is wrong with it
    empir checkpoints manifest         write the list of the members in checkpoints/
"""

from typing import Sequence

from empir.commands import process
from empir.errors import CheckpointError, EmpirError
from empir.models import checkpoints


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status, which is 2 if a checkpoint is bad.

    Raises:
      EmpirError: for a command line that is none of the module's docstring.
    """
    if argv == ["manifest"]:
        checkpoints.update_manifest()
        return 0
    if len(argv) < 2 or argv[0] != "verify" or any(word.startswith("-") for word in argv):
        raise EmpirError("usage: empir checkpoints verify PATH... (or: manifest)")
    status = 0
    for path in argv[1:]:
        try:
            print(process.one_line(checkpoints.describe(path)))
        except CheckpointError as error:
            status = process.complain(str(error))
    return status
