#!/usr/bin/env bash
# What adaptive attacks leave of the shipped networks under each decision rule, at the paper's radii and at
# smaller ones, beside PGD under the paper's protocols; and, of what withstands, what AutoAttack leaves of it.
#
#   scripts/reproduce_robustness.sh [mnist|cifar10|outside] [--only=GLOB] [--data_dir=FOLDER] [FLAG...]
#
# FOLDER holds mnist and cifar-10-batches-bin. A row's name is DATASET-KIND-RADIUS, with -RULE after it if it is of an
# ensemble, and l2- in front of a radius in the L2 norm; pgd/ is in front of the rows of PGD, which end in -PROTOCOL, and
# outside/ in front of those of AutoAttack.
# --list names all rows in their order, and --only makes those whose names fit GLOB, as in --only='mnist-*-0.1-vote'.
# The record of a row goes to results/robustness as NAME.json, and what the attacks did to each image as NAME.npz.
# Everything else (reports, adversarial images) goes to runs/robustness, where the same command goes on.
# 1,000 test images are attacked, drawn with each class's share (--nb_samples=N: another number): several hours on two
# cores, and as many for `outside`, which needs scripts/pytorch.sh and takes the images of runs/robustness, or else
# those of the records in results/robustness. FLAGs go to all commands, but those about workers (docs/cluster.md) not
# to AutoAttack, which has none.
#
# Curves and checks are those of the vote, which is the paper's rule, and of the single networks, at the radii that
# come first below. They take longer than some suites, and the other rules are of the same members.
set -euo pipefail
parts=" mnist cifar10 outside "
case ${1:-} in
  mnist | cifar10 | outside) parts=" $1 "; shift ;;
esac
. "$(dirname "$0")/checkout.sh"
. scripts/python.sh

data=
only='*'
list=
flags=()
for flag in "$@"; do
  case $flag in
    --data_dir=*) data=${flag#*=} ;;
    --only=*) only=${flag#*=} ;;
    --list) list=yes ;;
    *) flags+=("$flag") ;;
  esac
done
flags_here=() # those of a program without workers
for flag in ${flags[@]+"${flags[@]}"}; do
  case $flag in
    --scheduler* | --chunk_timeout* | --mixed_workers* | --nomixed_workers | --tls_*) ;;
    *) flags_here+=("$flag") ;;
  esac
done
runs=runs/robustness
results=results/robustness
made=
chosen=(--nb_samples=1000 --subset=stratified)

wanted() { # PART NAME: whether a row is asked for
  if [[ $parts != *" $1 "* || $2 != $only ]]; then
    return 1
  fi
  made=yes
  if [ -n "$list" ]; then
    echo "$2"
    return 1
  fi
  echo "== $2" >&2
}

run() { # DATASET WORD...: a command on the data of a dataset
  local folder=$1 place=()
  shift
  if [ "$folder" = cifar10 ]; then
    folder=cifar-10-batches-bin
  fi
  if [ -n "$data" ]; then
    place=(--data_dir="$data/$folder")
  fi
  "$PYTHON" "$@" ${place[@]+"${place[@]}"} ${flags[@]+"${flags[@]}"}
}

keep() { # RUN RECORD: copy a run's record, and what it found on each image
  cp "$1/images.npz" "$2.npz"
  cp "$1/result.json" "$2.json"
}

suite() { # DATASET NAME RADIUS FLAG...: all adaptive attacks
  local dataset=$1 name=$1-$2 eps=$3
  shift 3
  if wanted "$dataset" "$name"; then
    run "$dataset" -m empir robustness --dataset="$dataset" --eps="$eps" "${chosen[@]}" \
      --out="$runs/$name" "$@"
    keep "$runs/$name" "$results/$name"
  fi
}

pgd() { # DATASET NAME RADIUS PROTOCOL FLAG...: one of the paper's attacks
  local dataset=$1 name=$1-$2-$4 eps=$3 protocol=$4 parts_of=10
  shift 4
  if [ "$dataset" = mnist ]; then
    parts_of=30
  fi
  if wanted "$dataset" "pgd/$name"; then
    run "$dataset" "examples/${dataset}_attack.py" --attack=pgd --eps="$eps" --protocol="$protocol" \
      --eps_iter="$("$PYTHON" -c "print('%.6g' % ($eps / $parts_of))")" "${chosen[@]}" \
      --out="$runs/pgd/$name" --resume "$@"
    mkdir -p $results/pgd
    keep "$runs/pgd/$name" "$results/pgd/$name"
  fi
}

outside() { # DATASET NAME: AutoAttack on what a suite attacked, here or in the records kept
  local name=$1-$2 attacked=$runs/$1-$2
  if wanted outside "outside/$name"; then
    mkdir -p $runs/outside $results/outside
    if [ ! -e "$runs/outside/$name.json" ]; then
      local flags=(${flags_here[@]+"${flags_here[@]}"})
      if [ ! -e "$attacked/result.json" ]; then
        attacked=$results/$name.json
      fi
      run "$1" -m benchmarks.autoattack --run="$attacked" --out="$runs/outside/$name.json"
    fi
    cp "$runs/outside/$name.json" "$results/outside/$name.json"
  fi
}

members_of() { # DATASET
  local folder=checkpoints/$1
  case $1 in
    mnist) echo "w2a4:$folder/model1-w2a4,w2a4:$folder/model2-w2a4,fp:$folder/model3-fp" ;;
    cifar10) echo "w4a2:$folder/model1-w4a2,w2a2:$folder/model2-w2a2,fp:$folder/model3-fp" ;;
  esac
}

eps_of() { # RADIUS as in names
  case $1 in
    2-255) echo 0.00784314 ;;
    4-255) echo 0.0156863 ;;
    8-255) echo 0.0313725 ;;
    *) echo "${1#l2-}" ;;
  esac
}

norm_of() { # RADIUS as in names
  if [[ $1 = l2-* ]]; then
    echo --norm=l2
  fi
}

ensemble() { # DATASET RADIUS RULE FLAG...
  local dataset=$1 radius=$2 rule=$3
  shift 3
  suite "$dataset" "ensemble-$radius-$rule" "$(eps_of "$radius")" --members="$(members_of "$dataset")" \
    --combine="$rule" $(norm_of "$radius") "$@"
}

baseline() { # DATASET RADIUS FLAG...: the full-precision member alone
  local dataset=$1 radius=$2 members
  members=$(members_of "$1")
  shift 2
  suite "$dataset" "baseline-$radius" "$(eps_of "$radius")" --members="${members##*,}" $(norm_of "$radius") "$@"
}

protocols() { # DATASET RADIUS: PGD, of a single network by one protocol, as both are the same for it
  local members eps
  members=$(members_of "$1")
  eps=$(eps_of "$2")
  pgd "$1" "ensemble-$2" "$eps" paper --members="$members"
  pgd "$1" "ensemble-$2" "$eps" whitebox --members="$members"
  pgd "$1" "baseline-$2" "$eps" whitebox --members="${members##*,}"
}

# The rows by importance, so that a run that is ended early has made the first of them.
first=("mnist 0.1" "cifar10 8-255" "cifar10 2-255" "mnist 0.3" "cifar10 4-255")
others=("mnist 0.2" "cifar10 0.1")
# The L2 radius of MNIST is that of Schott and others (arXiv 1805.09190). The usual one on CIFAR-10 is 0.5, where CW
# alone succeeds on almost all images of the single network; at half of it something is left to compare.
in_l2=("mnist l2-1.5" "cifar10 l2-0.25")
for at in "${first[@]}"; do
  ensemble $at vote
  ensemble $at mean_logits --noanalyses
  baseline $at
done
for at in "${first[@]}"; do
  ensemble $at mean_probs --noanalyses
done
for at in "${others[@]}"; do
  ensemble $at vote --noanalyses
  ensemble $at mean_logits --noanalyses
  ensemble $at mean_probs --noanalyses
  baseline $at --noanalyses
done
for at in "${in_l2[@]}"; do
  ensemble $at vote --noanalyses
  ensemble $at mean_logits --noanalyses
  baseline $at --noanalyses
done
trained=checkpoints/defenses/mnist
suite mnist distilled-0.3 0.3 --members=fp:$trained/distill/model3-fp
members=w2a4:$trained/pgd/model1-w2a4,w2a4:$trained/pgd/model2-w2a4,fp:$trained/pgd/model3-fp
suite mnist pgd-0.3-vote 0.3 --members=$members --combine=vote
suite mnist pgd-0.3-mean_logits 0.3 --members=$members --combine=mean_logits --noanalyses
for at in "${first[@]}" "${others[@]}"; do
  protocols $at
done
for rule in ensemble:-vote ensemble:-mean_logits baseline: ensemble:-mean_probs; do
  for at in "${first[@]}"; do
    read -r dataset radius <<<"$at"
    outside "$dataset" "${rule%:*}-$radius${rule#*:}"
  done
done
outside mnist pgd-0.3-mean_logits

if [ -z "$made" ]; then
  echo "error: --only=$only: no row has such a name (--list names all)" >&2
  exit 2
fi
if [ -z "$list" ]; then
  "$PYTHON" -m benchmarks.pages
fi
