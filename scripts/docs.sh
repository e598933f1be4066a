#!/usr/bin/env bash
# Build the documentation site into build/site, with warnings as errors; links and images are checked.
#
#   scripts/docs.sh [--environment]
#
# The environment .venv-docs is made first, and nothing is done about it where it is up to date; with
# --environment nothing else is done. A Python 3.9 or later is looked for in $PYTHON_DOCS, on the PATH, and among
# pyenv's, uv's and conda's.
set -euo pipefail
. "$(dirname "$0")/checkout.sh"
. scripts/find_python.sh

build=yes
for argument in "$@"; do
  case $argument in
    --environment) build= ;;
    *) echo "error: scripts/docs.sh takes --environment, not $argument" >&2; exit 2 ;;
  esac
done

find_any() { # the first of these versions that there is
  local version
  for version in 3.11 3.12 3.13 3.10 3.9; do
    (find_python "$version" "${PYTHON_DOCS:-}" 2>/dev/null) && return
  done
  echo "error: no Python 3.9 to 3.13 found for the documentation: get one by 'uv python install 3.11'," \
    "'pyenv install 3.11' or 'conda create -n py311 python=3.11', or name one in PYTHON_DOCS" >&2
  return 2
}

stamp=.venv-docs/.installed
if ! cmp -s requirements-docs.txt "$stamp"; then
  python=$(find_any)
  rm -rf .venv-docs
  "$python" -m venv .venv-docs
  echo "installing requirements-docs.txt into .venv-docs" >&2
  .venv-docs/bin/python -m pip --disable-pip-version-check -q install -r requirements-docs.txt
  cp requirements-docs.txt "$stamp"
fi
if [ -n "$build" ]; then
  NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
  echo "build/site/index.html is the documentation; its search works where it is served:" \
    "$PWD/.venv-docs/bin/python -m http.server --directory $PWD/build/site" >&2
fi
