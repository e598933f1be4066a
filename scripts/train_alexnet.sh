#!/usr/bin/env bash
# Train the three members of the ImageNet ensemble at the original's settings: Adam 0.001 (epsilon
# 1e-5), batch 100, its steps of the rate. For how many epochs the authors trained is not known; the
# last step of their rates is at epoch 80, so these are 90.
#
#   scripts/train_alexnet.sh IMAGENET_PATH [DIR] [FLAG...]
#
# IMAGENET_PATH holds Train and Val with their TFRecords (empir convert). DIR
# (default runs/imagenet-members) gets model1-w2a2, model2-w4a4 and model3-fp, each a checkpoint in
# the released format. Members that are already there are left alone. Flags go to every training:
# --resume after a kill (the state is kept every ten minutes), --logdir=FOLDER, --nb_epochs=N, --test,
# --correct_channels (normalises each channel by its own mean, unlike the original).
set -euo pipefail
. "$(dirname "$0")/checkout.sh"
if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
  echo "error: usage: scripts/train_alexnet.sh IMAGENET_PATH [DIR] [FLAG...]" >&2
  exit 2
fi
imagenet=$1
shift
dir=runs/imagenet-members
. scripts/training.sh
flags=(--imagenet_path="$imagenet" ${flags[@]+"${flags[@]}"})

train alexnet_attack.py model1-w2a2 1 --lowprecision --wbits=2 --abits=2 --nb_epochs=90
train alexnet_attack.py model2-w4a4 2 --lowprecision --wbits=4 --abits=4 --nb_epochs=90
train alexnet_attack.py model3-fp 3 --nb_epochs=90
