#!/usr/bin/env bash
# What adaptive attacks leave of the shipped networks, at the paper's radii and at smaller ones, beside PGD
# under the paper's protocols; and, of what withstands, what AutoAttack leaves of it.
#
#   scripts/reproduce_robustness.sh [mnist|cifar10|outside] [--data_dir=FOLDER] [FLAG...]
#
# FOLDER holds mnist and cifar-10-batches-bin. Records go to results/robustness, everything else (reports,
# adversarial images) to runs/robustness. 1,000 test images are attacked, drawn with each class's share: one to two
# hours on two cores, and several for `outside`, which needs scripts/pytorch.sh. FLAGs go to all commands. Started
# again it continues.
set -euo pipefail
parts=(mnist cifar10 outside)
case ${1:-} in
  mnist | cifar10 | outside) parts=("$1"); shift ;;
esac
. "$(dirname "$0")/checkout.sh"
. scripts/python.sh

data=
flags=()
for flag in "$@"; do
  case $flag in
    --data_dir=*) data=${flag#*=} ;;
    *) flags+=("$flag") ;;
  esac
done
runs=runs/robustness
results=results/robustness
mkdir -p $results/pgd $results/outside

use() { # DATASET FOLDER STEP: of what the commands below are; PGD's step is the radius over STEP
  dataset=$1
  step=$3
  data_dir=()
  if [ -n "$data" ]; then
    data_dir=(--data_dir="$data/$2")
  fi
}

run() {
  "$PYTHON" "$@" ${data_dir[@]+"${data_dir[@]}"} ${flags[@]+"${flags[@]}"}
}

suite() { # NAME RADIUS FLAG...: all adaptive attacks
  local name=$dataset-$1 eps=$2
  shift 2
  echo "== $name" >&2
  run -m empir robustness --dataset="$dataset" --eps="$eps" --nb_samples=1000 --subset=stratified \
    --out="$runs/$name" "$@"
  cp "$runs/$name/result.json" "$results/$name.json"
}

pgd() { # NAME RADIUS PROTOCOL FLAG...: one of the paper's attacks
  local name=$dataset-$1-$3 eps=$2 protocol=$3
  shift 3
  if [ ! -e "$results/pgd/$name.json" ]; then
    echo "== $name" >&2
    run "examples/${dataset}_attack.py" --attack=pgd --eps="$eps" --protocol="$protocol" \
      --nb_samples=1000 --subset=stratified \
      --eps_iter="$("$PYTHON" -c "print('%.6g' % ($eps / $step))")" --out="$runs/pgd/$name" --resume "$@"
    cp "$runs/pgd/$name/result.json" "$results/pgd/$name.json"
  fi
}

compare() { # NAME: AutoAttack
  echo "== outside $1" >&2
  if [ ! -e "$results/outside/$1.json" ]; then
    run -m benchmarks.autoattack --run="$runs/$1" --out="$results/outside/$1.json"
  fi
}

radius() { # NAME RADIUS MEMBERS FLAG...: an ensemble's and its full-precision member's figures at a radius
  local name=$1 eps=$2 members=$3
  shift 3
  suite "ensemble-$name" "$eps" --members="$members" "$@"
  suite "baseline-$name" "$eps" --members="${members##*,}" --noanalyses
  pgd "ensemble-$name" "$eps" paper --members="$members"
  pgd "ensemble-$name" "$eps" whitebox --members="$members"
  pgd "baseline-$name" "$eps" whitebox --members="${members##*,}"
}

for part in "${parts[@]}"; do
  case $part in
    mnist)
      use mnist mnist 30
      members=w2a4:checkpoints/mnist/model1-w2a4,w2a4:checkpoints/mnist/model2-w2a4,fp:checkpoints/mnist/model3-fp
      radius 0.1 0.1 $members
      radius 0.3 0.3 $members
      radius 0.2 0.2 $members
      trained=checkpoints/defenses/mnist
      suite distilled-0.3 0.3 --members=fp:$trained/distill/model3-fp
      suite pgd-0.3 0.3 --members=w2a4:$trained/pgd/model1-w2a4,w2a4:$trained/pgd/model2-w2a4,fp:$trained/pgd/model3-fp
      ;;
    cifar10)
      use cifar10 cifar-10-batches-bin 10
      members=w4a2:checkpoints/cifar10/model1-w4a2,w2a2:checkpoints/cifar10/model2-w2a2,fp:checkpoints/cifar10/model3-fp
      radius 2-255 0.00784314 $members
      radius 8-255 0.0313725 $members
      radius 0.1 0.1 $members
      radius 4-255 0.0156863 $members
      ;;
    outside)
      use mnist mnist 30
      compare mnist-ensemble-0.1
      compare mnist-baseline-0.1
      compare mnist-pgd-0.3
      use cifar10 cifar-10-batches-bin 10
      compare cifar10-ensemble-2-255
      compare cifar10-baseline-2-255
      compare cifar10-ensemble-4-255
      ;;
  esac
done
"$PYTHON" -m empir report
