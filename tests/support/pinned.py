"""What commands kept when their pins were made: the keys and values of records, and decisions.

    python -m tests.support.pinned NAME FOLDER

pins the run that a folder holds under a name in tests/golden/commands.json. What differs between
machines, or between two runs, is pinned by its keys alone.
"""

import json
import os
import re
import sys

import numpy as np

from tests.support import GOLDEN

PINS = os.path.join(GOLDEN, "commands.json")
#: Of records: of the machine and the moment; of these only the keys are pinned.
PASSING = set(
    "seconds peak_memory_mb versions git_commit command started examples_sha256 threads".split()
)


def kept(folder):
    """What is pinned of a run: its record, and of each examples.npz the types and the decisions."""
    with open(os.path.join(folder, "result.json")) as file:
        found = {"record": _lasting(json.load(file)), "examples": {}}
    for trial in [""] + [trial["name"] for trial in found["record"].get("trials", [])]:
        path = os.path.join(folder, trial, "examples.npz")
        if os.path.exists(path):
            with np.load(path, allow_pickle=False) as arrays:
                count = found["record"]["num_examples"]
                described = {name: _array(arrays[name], count) for name in arrays.files}
                found["examples"][trial] = described
    return found


def _lasting(value):
    if isinstance(value, list):
        return [_lasting(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: (sorted(one) if isinstance(one, dict) else None) if key in PASSING else _lasting(one)
        for key, one in value.items()
    }


def _array(array, count):
    """Type and shape of a row, and integers if there is a row for each image."""
    described = {"dtype": array.dtype.str, "shape": list(array.shape[1:])}
    if array.dtype.kind == "i" and len(array) == count:
        described["values"] = array.tolist()
    return described


def assert_pinned(name, folder):
    """A run kept what is pinned: keys, types and settings the same, results but for one image.

    On another type of processor sums round otherwise, and an activation near the boundary of two
    levels becomes the other one.
    """
    with open(PINS) as file:
        pin = json.load(file)[name]
    found = json.loads(json.dumps(kept(str(folder))))
    count = found["record"]["num_examples"]
    _compare(found["record"], pin["record"], count, "result.json")
    assert set(found["examples"]) == set(pin["examples"])
    for trial, arrays in pin["examples"].items():
        _compare(found["examples"][trial], arrays, count, os.path.join(trial, "examples.npz"))


def _compare(found, pin, count, place):
    assert isinstance(found, type(pin)), f"{place}: {found} was {pin}"
    if isinstance(pin, dict):
        assert list(found) == list(pin), f"{place} has the keys {list(found)}, not {list(pin)}"
        for key in pin:
            if key == "values":
                differing = np.sum(np.not_equal(found[key], pin[key]), axis=0)
                assert np.max(differing, initial=0) <= 1, f"{place}: {found[key]} was {pin[key]}"
            else:
                _compare(found[key], pin[key], count, f"{place}: {key}")
    elif isinstance(pin, list) and len(found) == len(pin):
        for number, (one, other) in enumerate(zip(found, pin)):
            _compare(one, other, count, f"{place}[{number}]")
    elif pin is not None and RESULTS.search(place):
        slack = 1 if isinstance(pin, int) else max(1 / count, 0.05 * abs(pin))
        assert abs(found - pin) <= slack + 1e-9, f"{place} is {found}, was {pin}"
    else:
        assert found == pin, f"{place} is {found}, was {pin}"


#: Ends of the places of numbers that images decide.
RESULTS = re.compile(
    r"(accuracy|worst_case|interval\[\d\]|(clean|adversarial)(_top5)?|mean_l\w+|mean_changed"
    r"|attacked|broken)$"
)


def main(name, folder):
    """Pin a run."""
    pins = {}
    if os.path.exists(PINS):
        with open(PINS) as file:
            pins = json.load(file)
    pins[name] = kept(folder)
    with open(PINS, "w") as file:
        json.dump(dict(sorted(pins.items())), file, indent=None, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
