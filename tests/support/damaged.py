"""Damages JSON values, one place at a time, and says how a call refuses them."""

import copy

from empir.errors import EmpirError

#: What stands in the place of a value: damaged by hand, by a program, or of another kind.
WRONG = (None, "x\n<b>", -1, 10**400, float("nan"), True, [], {"a": None})


def places(value, path=()):
    """Paths of all values in a JSON value: its own first; of a list, of the first and last item."""
    yield path
    items = []
    if isinstance(value, dict):
        items = value.items()
    if isinstance(value, list) and value:
        items = sorted({0: value[0], len(value) - 1: value[-1]}.items())
    for key, item in items:
        yield from places(item, path + (key,))


def changed(value, path, wrong=None, drop=False):
    """A copy in which the value at a path is another one, or is missing."""
    if not path:
        return wrong
    value = copy.copy(value)
    if len(path) == 1 and drop:
        del value[path[0]]
    else:
        value[path[0]] = changed(value[path[0]], path[1:], wrong, drop)
    return value


def refusal(call):
    """The message of the one line that a call ends in; None if it ends well."""
    try:
        call()
    except EmpirError as error:
        assert len(str(error).splitlines()) == 1
        return str(error)
    return None
