#!/usr/bin/env bash
# Make .venv with everything pinned; does nothing where it is up to date.
#
#   scripts/setup.sh [--gpu] [--test]
#
# --gpu takes tensorflow-gpu (CUDA 10.0) instead of the CPU build; --test adds what test.sh needs.
# A Python 3.7 is looked for in $PYTHON37, on the PATH, and among pyenv's, uv's and conda's.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=requirements-cpu.txt
test=
for argument in "$@"; do
  case $argument in
    --gpu) requirements=requirements.txt ;;
    --test) test="requirements-test.txt requirements-onnx.txt requirements-cluster.txt" ;;
    *) echo "error: scripts/setup.sh takes --gpu and --test, not $argument" >&2; exit 2 ;;
  esac
done

. scripts/find_python.sh

stamp=.venv/.installed
# What decides the environment: the folder too, whose path the installed package holds.
state() { { pwd -P; cat "$@" setup.py; } | cksum; }
# shellcheck disable=SC2086 # $test is a list of files
wanted=$(state "$requirements" $test)
if [ -f "$stamp" ] && works .venv/bin/python 3.7 && grep -qxF "$wanted" "$stamp"; then
  exit 0
fi

if ! works .venv/bin/python 3.7; then
  python=$(find_python 3.7 "${PYTHON37:-}")
  echo "making .venv with $("$python" --version 2>&1)" >&2
  rm -rf .venv
  "$python" -m venv .venv
fi
echo "installing $requirements ${test:+and $test }into .venv" >&2
pip() { .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }
pip install pip==24.0 setuptools==68.0.0 wheel==0.42.0
pip install -r "$requirements" ${test:+-r ${test// / -r }}
pip install --no-deps --no-build-isolation -e .
# Without --test the environment may hold the test tools already: note both states.
echo "$wanted" >"$stamp"
if [ -n "$test" ]; then
  state "$requirements" >>"$stamp"
fi
