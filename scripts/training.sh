# Sourced by scripts/train_*.sh, with their arguments: takes DIR from them, whose default the caller
# sets as `dir`, leaves the flags in `flags`, and defines train.
. scripts/python.sh

if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  dir=$1
  shift
fi
flags=("$@")

train() { # SCRIPT NAME SEED FLAG...
  local script=$1 name=$2 seed=$3
  shift 3
  mkdir -p "$dir/$name"
  echo "== $name" >&2
  "$PYTHON" "examples/$script" --train_only --model_path="$dir/$name" --seed="$seed" "$@" \
    ${flags[@]+"${flags[@]}"}
}
