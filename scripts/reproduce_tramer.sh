#!/usr/bin/env bash
# The attack by which Tramèr and others broke EMPIR on CIFAR-10 (arXiv 2002.08347, section 12), on the shipped
# members and on all 10,000 test images: PGD along the cross-entropy of the members' mean probabilities, away
# from the true classes, one random start, 100 steps of 0.0078 within 0.031. Its parameters are those of ART's
# notebook evaluation_12_EMPIR, which judges by the vote; a record here has all three decision rules. Then the
# same on each member alone. Records go to results/cifar10/tramer.
#
#   scripts/reproduce_tramer.sh [--data_dir=FOLDER] [FLAG...]
#
# FLAGs go to examples/cifar10_attack.py. Half an hour for the ensemble on one core, and as long for the members.
# Started again it continues; remove results/cifar10/tramer to compute it anew.
set -euo pipefail
. "$(dirname "$0")/checkout.sh"
. scripts/python.sh

attack() { # NAME MEMBERS
  echo "== $1" >&2
  "$PYTHON" examples/cifar10_attack.py --attack=pgd --true_labels --eps=0.031 --eps_iter=0.0078 --nb_iter=100 \
    --combine=mean_probs --members="$2" --out="results/cifar10/tramer/$1" --resume ${flags[@]+"${flags[@]}"}
}

flags=("$@")
members=(
  w4a2:checkpoints/cifar10/model1-w4a2
  w2a2:checkpoints/cifar10/model2-w2a2
  fp:checkpoints/cifar10/model3-fp
)
attack ensemble "$(IFS=,; echo "${members[*]}")"
for member in "${members[@]}"; do
  attack "${member##*/}" "$member"
done
"$PYTHON" -m benchmarks.pages
