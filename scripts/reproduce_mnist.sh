#!/usr/bin/env bash
# Both MNIST rows of the paper's table on all 10,000 test images: four attacks, both protocols.
# Records go to results/mnist, then the tables of docs/ are made from them.
#
#   scripts/reproduce_mnist.sh [--data_dir=FOLDER] [--out=DIR] [--members_dir=DIR]
#
# Started again it continues where it stopped; the records that the repository holds count as
# finished, so remove results/mnist to compute them anew. Records of other members or parameters
# are refused: give another --out.
set -euo pipefail
. "$(dirname "$0")/checkout.sh"
. scripts/python.sh
"$PYTHON" -m empir reproduce --dataset=mnist "$@"
"$PYTHON" -m benchmarks.pages
