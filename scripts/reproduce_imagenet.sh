#!/usr/bin/env bash
# Both ImageNet rows of the paper's table on all validation images: four attacks, both protocols.
# Records go to results/imagenet, then the tables of docs/ are made from them.
#
#   scripts/reproduce_imagenet.sh IMAGENET_PATH [MEMBERS] [FLAG...]
#
# IMAGENET_PATH holds Val with its TFRecords (empir convert). MEMBERS (default
# runs/imagenet-members, where train_alexnet.sh puts them) has a checkpoint in each of model1-w2a2,
# model2-w4a4 and model3-fp: the authors' released ones, or your own. Flags: --nb_samples=N and
# --slow_samples=N (all but FGSM) for fewer images, --val_label_offset, --out=DIR.
#
# Started again it continues where it stopped. Records of other members or parameters are refused.
set -euo pipefail
. "$(dirname "$0")/checkout.sh"
if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
  echo "error: usage: scripts/reproduce_imagenet.sh IMAGENET_PATH [MEMBERS] [FLAG...]" >&2
  exit 2
fi
imagenet=$1
shift
members=runs/imagenet-members
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  members=$1
  shift
fi
. scripts/python.sh
"$PYTHON" -m empir reproduce --dataset=imagenet --imagenet_path="$imagenet" --members_dir="$members" "$@"
"$PYTHON" -m benchmarks.pages
