"""The sentence that says which processors the figures of docs/performance.md are of."""

import json

from benchmarks.pages import machines
from benchmarks.pages.inference import MISSING

INTEL, AMD = "an Intel, 2 threads", "an AMD, 2 threads"


def test_one_machine_is_named_once():
    assert machines.sentence({"attacks": INTEL, "many images": INTEL}).endswith(f": {INTEL}.")


def test_each_machine_is_named_with_what_was_measured_on_it():
    found = machines.sentence({"attacks": INTEL, "many images": AMD, "start": INTEL})
    assert f"attacks, start: {INTEL}; many images: {AMD}." in found


def test_records_that_are_not_there_are_not_named(tmp_path):
    folder = tmp_path / "benchmark"
    folder.mkdir()
    assert machines.markdown(str(tmp_path / "all"), None) == MISSING
    (folder / "scale.json").write_text(json.dumps({"processor": AMD}))
    assert machines.markdown(str(tmp_path / "all"), None).endswith(f": {AMD}.")
