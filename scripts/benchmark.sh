#!/usr/bin/env bash
# Time this project beside CleverHans 2.1.0, Foolbox and torchattacks; arguments go to
# python -m empir.benchmark, e.g.
#
#   scripts/benchmark.sh --data_dir=FOLDER        (that holds mnist and cifar-10-batches-bin)
#
# PyTorch gets an environment of its own, .venv-pytorch, from a Python 3.11 in $PYTHON311, on the
# PATH, or among pyenv's, uv's and conda's. Nothing else should run meanwhile. Started again it
# continues where it stopped; remove results/benchmark/comparison.json to measure anew.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/python.sh
. scripts/find_python.sh

stamp=.venv-pytorch/.installed
if ! cmp -s requirements-pytorch.txt "$stamp"; then
  python=$(find_python 3.11 "${PYTHON311:-}")
  rm -rf .venv-pytorch
  "$python" -m venv .venv-pytorch
  echo "installing requirements-pytorch.txt into .venv-pytorch" >&2
  .venv-pytorch/bin/python -m pip --disable-pip-version-check -q install -r requirements-pytorch.txt
  cp requirements-pytorch.txt "$stamp"
fi
"$PYTHON" -m empir.benchmark "$@"
"$PYTHON" -m empir.report
