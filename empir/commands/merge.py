"""Make whole evaluations of their shards, as one process would have computed them.

    empir attack --attack=pgd --shard=1/2 --out=parts/1 ...
    empir attack --attack=pgd --shard=2/2 --out=parts/2 ...
    empir merge parts/1 parts/2 --out=runs/pgd

Each folder is what a command with --shard has written to, and holds one part or, of empir
reproduce, many. A shard that is missing, unfinished or of another evaluation is named. --mixed
accepts shards that were computed by processors or versions of other kinds. The shards' folders stay
as they are.
"""

import logging
import os
from typing import Sequence

from empir.commands.attack import report
from empir.errors import EmpirError
from empir.records import runs

log = logging.getLogger("empir")

USAGE = "usage: empir merge SHARD... --out=FOLDER [--mixed]"


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status.

    Raises:
      EmpirError: for a command line that is none of the module's docstring, for shards that do not
        make up an evaluation, or if nothing can be written.
    """
    folders, out, mixed = _arguments(argv)
    runs.check_writable(out)
    from empir.evaluation import shards, single

    parts = shards.find(folders)
    for place in parts:
        shards.check_whole(parts[place], mixed)
    for place in parts:
        record = single.merge(parts[place], os.path.normpath(os.path.join(out, place)))
        if len(parts) == 1:
            report(record)
        else:
            text = "%s: clean %.4f, adversarial %.4f"
            log.info(text, place, record["clean_accuracy"], record["adversarial_accuracy"])
    return 0


def _arguments(argv):
    """The shards' folders, the folder for the whole, and whether mixed ones are accepted."""
    folders, out, mixed = [], "", False
    for word in argv:
        if word.startswith("--out="):
            out = word[len("--out=") :]
        elif word == "--mixed":
            mixed = True
        elif word.startswith("-"):
            raise EmpirError(f"{word} is unknown; {USAGE}")
        else:
            folders.append(word)
    if not folders or not out:
        raise EmpirError(USAGE)
    for folder in folders:
        if not os.path.isdir(folder):
            raise EmpirError(f"{folder} is not a folder; {USAGE}")
    return folders, out, mixed
