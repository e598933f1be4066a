# Sourced by the other scripts: sets PYTHON to this checkout's environment, which setup.sh makes,
# or to an activated one that has the package.
PYTHON=.venv/bin/python
if [ ! -x "$PYTHON" ]; then
  PYTHON=python
  if ! "$PYTHON" -c 'import sys, tensorflow, keras; sys.exit(sys.version_info[:2] != (3, 7))' 2>/dev/null; then
    echo "error: no environment: run scripts/setup.sh (or activate one with pip install -e .[cpu])" >&2
    exit 2
  fi
fi
