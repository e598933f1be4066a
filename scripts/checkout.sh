# Sourced by the other scripts before they read their arguments: goes to the checkout. Relative paths among the
# arguments, which are meant from the caller's folder, become absolute; and `--flag path` becomes `--flag=path`.
# With --help the script's own head is printed instead.
for argument in "$@"; do
  if [ "$argument" = --help ] || [ "$argument" = -h ]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
  fi
done

caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

absolute() { # PATH
  if [ "$caller" = "$PWD" ]; then
    printf '%s' "$1"
    return
  fi
  case $1 in
    "" | /*) printf '%s' "$1" ;;
    *) printf '%s' "$caller/$1" ;;
  esac
}

resolve() { # FLAG VALUE: the flag with its paths made absolute
  local entry joined= entries
  case $1 in
    --members | --outside | --checkpoint)
      IFS=, read -ra entries <<<"$2"
      for entry in ${entries[@]+"${entries[@]}"}; do
        if [[ $entry =~ ^((fp|w[0-9]+a[0-9]+)(/(fp|w[0-9]+a[0-9]+))*:)(.*)$ ]]; then
          joined+=,${BASH_REMATCH[1]}$(absolute "${BASH_REMATCH[5]}")
        else
          joined+=,$(absolute "$entry")
        fi
      done
      printf '%s=%s' "$1" "${joined#,}"
      ;;
    *) printf '%s=%s' "$1" "$(absolute "$2")" ;;
  esac
}

paths=" --data_dir --imagenet_path --data --out --members --members_dir --outside --checkpoint --logdir --initial_path"
paths+=" --teacher_path --pytorch --run --flagfile "
arguments=()
leading=yes # arguments before the first flag are paths
while [ $# -gt 0 ]; do
  name=${1%%=*}
  case $1 in
    -*) leading= ;;
  esac
  if [[ $1 == --*=* && $paths == *" $name "* ]]; then
    arguments+=("$(resolve "$name" "${1#*=}")")
  elif [[ $1 == --* && $paths == *" $1 "* && $# -gt 1 ]]; then
    arguments+=("$(resolve "$1" "$2")")
    shift
  elif [ -n "$leading" ]; then
    arguments+=("$(absolute "$1")")
  else
    arguments+=("$1")
  fi
  shift
done
set -- ${arguments[@]+"${arguments[@]}"}
