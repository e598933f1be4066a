#!/usr/bin/env bash
# Formatters, linters, documentation and tests.
#
#   scripts/test.sh [--fast] [PYTEST ARGUMENT...]
#
# --fast leaves out the documentation and the tests that are marked as slow: it is meant to take
# less than two minutes on two processors. Other arguments go to pytest, e.g.
# scripts/test.sh -k attacks.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONDONTWRITEBYTECODE # or else each of some hundred processes compiles every module again
fast=
if [ "${1:-}" = --fast ]; then fast=yes; shift; fi

others() { # what needs no .venv: the other environments, and the documentation
  scripts/pytorch.sh || echo "going on without PyTorch: the tests of its benchmark are skipped" >&2
  scripts/browser.sh || echo "going on without a browser: the tests of pages in one are skipped" >&2
  if scripts/docs.sh --environment; then
    scripts/docs.sh
  else
    echo "going on without the documentation: it is not built" >&2
  fi
}

# Each of these parts uses one processor, so two are at work at a time; each background job is a
# group of processes, which ends with this script.
set -m
jobs=()
trap 'for job in ${jobs[@]+"${jobs[@]}"}; do kill -- "-$job" 2>/dev/null || true; done' EXIT
if [ -z "$fast" ]; then others & jobs+=($!); fi
scripts/setup.sh --test
.venv/bin/mypy & jobs+=($!)
.venv/bin/black --check -q . || { echo "error: run .venv/bin/black ." >&2; exit 1; }
.venv/bin/isort --check -q . || { echo "error: run .venv/bin/isort ." >&2; exit 1; }
.venv/bin/flake8
.venv/bin/lint-imports --no-cache
for job in "${jobs[@]}"; do wait "$job"; done
jobs=()
set +m
# One process more than there are processors, as many tests wait for others, but at most four: each takes up to 4 GB.
# oneDNN's passes over a graph, which search the list of all kernels
# for each of its operations, take half the time of many tests: those whose networks are not computed for
# their arithmetic run without it (`pytest_collection_modifyitems` in tests/conftest.py).
tests() { # MARKERS ENVIRONMENT ARGUMENT...
  env "$2" .venv/bin/python -m pytest --numprocesses=$(($(nproc) < 3 ? $(nproc) + 1 : 4)) --dist=worksteal \
    --durations=20 -m "$1${fast:+ and not slow}" "${@:3}"
}
with=0 without=0
tests onednn TF_DISABLE_MKL=0 "$@" || with=$?
tests "not onednn" TF_DISABLE_MKL=1 "$@" || without=$?
# 5: none of the tests that the arguments name is among them.
if [ "$with" = 5 ]; then exit "$without"; fi
if [ "$without" = 5 ]; then exit "$with"; fi
exit $((with ? with : without))
