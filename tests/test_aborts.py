"""No network or attack of this project ends its process, which this TensorFlow does on some graphs.

intel-tensorflow fuses a matrix product, its bias and a sum of two, and then looks for the strides
of a convolution; its pass for oneDNN fails on kernels that are drawn at random and rearranged.
"""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.slow  # it starts processes


def test_no_case_ends_its_process():
    """All at once, as they share the time that an import of TensorFlow takes."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.aborting"],
        env=dict(os.environ, PYTHONPATH=ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    ended = process.stdout.splitlines()
    assert process.returncode == 0, process.stderr
    assert len(ended) >= 10 and [line for line in ended if not line.endswith(": ok")] == []
