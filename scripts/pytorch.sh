#!/usr/bin/env bash
# Make .venv-pytorch, the environment of the PyTorch programs in benchmarks/; does nothing where it is
# up to date. A Python 3.11 is looked for in $PYTHON311, on the PATH, and among pyenv's, uv's and
# conda's.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/find_python.sh

stamp=.venv-pytorch/.installed
packages() { grep -v '^#' "$1"; }
if [ -f "$stamp" ] && [ "$(packages requirements-pytorch.txt)" = "$(packages "$stamp")" ]; then
  exit 0
fi
python=$(find_python 3.11 "${PYTHON311:-}")
rm -rf .venv-pytorch
"$python" -m venv .venv-pytorch
echo "installing requirements-pytorch.txt into .venv-pytorch" >&2
.venv-pytorch/bin/python -m pip --disable-pip-version-check -q install -r requirements-pytorch.txt
cp requirements-pytorch.txt "$stamp"
