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
. "$(dirname "$0")/checkout.sh"
dir=runs/mnist-members
. scripts/training.sh

train mnist_attack.py model1-w2a4 1 --lowprecision --wbits=2 --abits=4
train mnist_attack.py model2-w2a4 2 --lowprecision --wbits=2 --abits=4
train mnist_attack.py model3-fp 3
