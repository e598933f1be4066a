# Sourced by the other scripts: find_python VERSION [CANDIDATE] prints a Python of that version that
# runs, looked for in CANDIDATE, on the PATH, and among pyenv's, uv's and conda's.

works() { # a candidate counts only if it runs: pyenv's shims exist for versions that do not
  "$1" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

candidates() {
  echo "$2"
  type -ap "python$1" python3 python || true
  ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1"*/bin/"python$1" 2>/dev/null || true
  command -v uv >/dev/null && uv python find "$1" 2>/dev/null || true
  command -v conda >/dev/null && conda env list 2>/dev/null | sed -n 's|^[^#].* \(/.*\)$|\1/bin/python|p' || true
}

find_python() {
  local candidate variable=PYTHON${1/./}
  while read -r candidate; do
    if [ -n "$candidate" ] && works "$candidate" "$1"; then
      echo "$candidate"
      return
    fi
  done < <(candidates "$1" "${2:-}")
  echo "error: no Python $1 found: get one by 'uv python install $1', 'pyenv install $1' or" \
    "'conda create -n py${1/./} python=$1', or name one in $variable" >&2
  exit 2
}
