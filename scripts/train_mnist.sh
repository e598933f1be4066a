#!/usr/bin/env bash
# Train the three members of the MNIST ensemble at the original's settings: Adam 0.001, batch 128,
# 15 epochs, 60,000 images (about 6 minutes each on two cores).
#
#   scripts/train_mnist.sh [DIR] [FLAG...]
#
# DIR (default runs/mnist-members) gets model1-w2a4, model2-w2a4 and model3-fp, each a checkpoint in
# the released format. Members that are already there are left alone. Flags go to every training:
# --data_dir=FOLDER (MNIST's files; else they are downloaded), --resume after a kill, --logdir=FOLDER.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/python.sh

dir=runs/mnist-members
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  dir=$1
  shift
fi

train() { # NAME SEED FLAG...
  local name=$1 seed=$2
  shift 2
  mkdir -p "$dir/$name"
  echo "== $name" >&2
  "$PYTHON" examples/mnist_attack.py --train_only --model_path="$dir/$name" --seed="$seed" "$@"
}

train model1-w2a4 1 --lowprecision --wbits=2 --abits=4 "$@"
train model2-w2a4 2 --lowprecision --wbits=2 --abits=4 "$@"
train model3-fp 3 "$@"
