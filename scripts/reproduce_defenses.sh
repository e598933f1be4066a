#!/usr/bin/env bash
# The paper's other columns, on MNIST and CIFAR-10: members trained by each defense, alone and as EMPIR
# ensembles, under the four attacks and both protocols.
#
#   scripts/reproduce_defenses.sh [DIR] [--data_dir=FOLDER] [--out=DIR] [--nb_samples=N]
#
# Every member starts from the shipped one and is trained on by the defense for one or two epochs:
# so many as two cores finish in two hours. DIR (default runs/defenses) gets the trained members, each
# a checkpoint in the released format. 1,000 test images, drawn with each class's share, are attacked,
# and records go to results/defenses. FOLDER holds mnist and cifar-10-batches-bin; without it they are downloaded.
#
# Started again it continues where it stopped, also within a training or an attack. Members that are
# already in DIR are not trained again: DIR=checkpoints/defenses only attacks the shipped ones.
set -euo pipefail
. "$(dirname "$0")/checkout.sh"
dir=runs/defenses
. scripts/training.sh

data=
out=results/defenses
samples=1000
for flag in ${flags[@]+"${flags[@]}"}; do
  case $flag in
    --data_dir=*) data=${flag#*=} ;;
    --out=*) out=${flag#*=} ;;
    --nb_samples=*) samples=${flag#*=} ;;
    *)
      echo "error: $0 takes --data_dir, --out and --nb_samples, not $flag" >&2
      exit 2
      ;;
  esac
done
root=$dir

use() { # DATASET FOLDER: what the commands below are about
  dataset=$1
  flags=()
  if [ -n "$data" ]; then
    flags=(--data_dir="$data/$2")
  fi
}

defend() { # DEFENSE FLAG...
  local defense=$1 name bits seed=10
  shift
  dir=$root/$dataset/$defense
  # The full-precision member first: --distill's teacher is trained with it.
  for name in $(ls -r "checkpoints/$dataset"); do
    bits=()
    if [[ $name =~ w([0-9]+)a([0-9]+)$ ]]; then
      bits=(--lowprecision --wbits="${BASH_REMATCH[1]}" --abits="${BASH_REMATCH[2]}")
    fi
    seed=$((seed + 1))
    train "${dataset}_attack.py" "$name" $seed ${bits[@]+"${bits[@]}"} --resume \
      --initial_path="checkpoints/$dataset/$name" "$@"
  done
  evaluate "$defense" "$dir"
}

evaluate() { # DEFENSE MEMBERS
  "$PYTHON" -m empir reproduce --dataset="$dataset" --members_dir="$2" --nb_samples="$samples" \
    --subset=stratified --out="$out/$dataset/$1" ${flags[@]+"${flags[@]}"}
}

use mnist mnist
evaluate none checkpoints/mnist
defend pgd --adv=1 --delay=0 --nb_epochs=2 --nb_iter=7 --adv_eps_iter=0.1
defend fgsm --adv=2 --delay=0 --nb_epochs=1
defend distill --distill --nb_epochs=2 --student_epochs=2 --teacher_path="$root/mnist/teacher"
defend inpgradreg --inpgradreg --l2dbl=10000 --nb_epochs=1

# The radius is 0.1, where the original trained with 0.3 (--adv_eps=0.3).
use cifar10 cifar-10-batches-bin
evaluate none checkpoints/cifar10
defend pgd --adv=1 --delay=0 --nb_epochs=1 --nb_iter=7 --adv_eps_iter=0.035
defend fgsm --adv=2 --delay=0 --nb_epochs=1
defend distill --distill --nb_epochs=2 --student_epochs=2 --teacher_path="$root/cifar10/teacher"
defend inpgradreg --inpgradreg --l2dbl=1000 --nb_epochs=1

"$PYTHON" -m benchmarks.pages
