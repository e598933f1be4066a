#!/usr/bin/env bash
# Time this project beside CleverHans 2.1.0 and PyTorch; arguments go to
# benchmarks/speed.py, e.g.
#
#   scripts/benchmark.sh --data_dir=FOLDER        (that holds mnist and cifar-10-batches-bin)
#
# PyTorch gets an environment of its own (scripts/pytorch.sh). Nothing else should run meanwhile.
# Started again it continues where it stopped; remove results/benchmark/comparison.json to measure
# anew.
set -euo pipefail
. "$(dirname "$0")/checkout.sh"
. scripts/python.sh
"$PYTHON" -m benchmarks.speed "$@" --check_flags # before an environment is made
scripts/pytorch.sh
"$PYTHON" -m benchmarks.speed "$@"
"$PYTHON" -m benchmarks.pages
