"""Objects of a user's own code that flags name: --objective=mine.py:LogitDecay.

The file or module is imported, so its code runs.
"""

import functools
import importlib
import importlib.util
import os
import sys

from empir.errors import EmpirError


@functools.lru_cache(maxsize=None)  # a file's code runs once
def load(text: str, flag: str):
    """The object that a flag's value names.

    Args:
      text: FILE.py:NAME, or MODULE:NAME of a module that can be imported from the current folder.
      flag: the flag, for messages.

    Raises:
      EmpirError: if there is no such file, module or name, or the import fails.
    """
    source, _, name = text.rpartition(":")
    try:
        module = _module(source)
        return getattr(module, name)
    except Exception as error:  # of whatever kind the code of the module raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise EmpirError(f"{flag}={text} cannot be imported ({reason})")


def _module(source):
    if not source.endswith(".py"):
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        return importlib.import_module(source)
    name = os.path.splitext(os.path.basename(source))[0]
    spec = importlib.util.spec_from_file_location(name, source)
    module = importlib.util.module_from_spec(spec)
    # A class finds the module that it is defined in by its name.
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module
