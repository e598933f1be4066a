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
    --test) test=requirements-test.txt ;;
    *) echo "error: scripts/setup.sh takes --gpu and --test, not $argument" >&2; exit 2 ;;
  esac
done

works() { # a candidate counts only if it runs: pyenv's shims exist for versions that do not
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 7))' 2>/dev/null
}

candidates() {
  echo "${PYTHON37:-}"
  type -ap python3.7 python3 python || true
  ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.7*/bin/python3.7 2>/dev/null || true
  command -v uv >/dev/null && uv python find 3.7 2>/dev/null || true
  command -v conda >/dev/null && conda env list 2>/dev/null | sed -n 's|^[^#].* \(/.*\)$|\1/bin/python|p' || true
}

find_python() {
  local candidate
  while read -r candidate; do
    if [ -n "$candidate" ] && works "$candidate"; then
      echo "$candidate"
      return
    fi
  done < <(candidates)
  echo "error: no Python 3.7 found: get one by 'uv python install 3.7', 'pyenv install 3.7' or" \
    "'conda create -n py37 python=3.7', or name one in PYTHON37" >&2
  exit 2
}

stamp=.venv/.installed
wanted=$(cat "$requirements" ${test:+"$test"} setup.py | cksum)
if [ -f "$stamp" ] && works .venv/bin/python && grep -qxF "$wanted" "$stamp"; then
  exit 0
fi

if ! works .venv/bin/python; then
  python=$(find_python)
  echo "making .venv with $("$python" --version 2>&1)" >&2
  rm -rf .venv
  "$python" -m venv .venv
fi
echo "installing $requirements ${test:+and $test }into .venv" >&2
pip() { .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }
pip install pip==24.0 setuptools==68.0.0 wheel==0.42.0
pip install -r "$requirements" ${test:+-r "$test"}
pip install --no-deps --no-build-isolation -e .
# Without --test the environment may hold the test tools already: note both states.
echo "$wanted" >"$stamp"
if [ -n "$test" ]; then
  cat "$requirements" setup.py | cksum >>"$stamp"
fi
