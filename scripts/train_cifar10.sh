#!/usr/bin/env bash
# Train the three members of the CIFAR-10 ensemble at the original's settings, Adam 0.001, batch 128,
# smoothed labels, no augmentation, but for 28 epochs instead of 6: of the numbers up to 30 the one
# whose members come closest to the released ones (docs/results-cifar10.md). About 7 minutes each
# on two cores.
#
#   scripts/train_cifar10.sh [DIR] [FLAG...]
#
# DIR (default runs/cifar10-members) gets model1-w4a2, model2-w2a2 and model3-fp, each a checkpoint in
# the released format. Members that are already there are left alone. Flags go to every training:
# --data_dir=FOLDER (CIFAR-10's files; else they are downloaded), --resume after a kill,
# --logdir=FOLDER, --nb_epochs=N, --test (measures the test accuracy after each epoch).
set -euo pipefail
. "$(dirname "$0")/checkout.sh"
dir=runs/cifar10-members
. scripts/training.sh

train cifar10_attack.py model1-w4a2 1 --lowprecision --wbits=4 --abits=2 --nb_epochs=28
train cifar10_attack.py model2-w2a2 2 --lowprecision --wbits=2 --abits=2 --nb_epochs=28
train cifar10_attack.py model3-fp 3 --nb_epochs=28
